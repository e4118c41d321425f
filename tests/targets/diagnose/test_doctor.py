"""doctor: a runtime that computes wrongly fails it, and known faults are told for what they are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli.machine import tell_known
from pipeline.cli.main import app
from support import SUPPORT
from targets.devices.connect import open_device
from targets.devices.emulator import home
from targets.diagnose import doctor
from targets.diagnose.corpus import CORPUS
from targets.diagnose.corpus.fault import Fault, f32, graph
from targets.diagnose.doctor import Examination, Finding, examine_all, examine_backend
from targets.diagnose.known import Known, judged, known_faults, linted
from targets.errors import FAILED, PASSED, UNDECIDED
from targets.runner import backends

FEW = {
    name: CORPUS[name]
    for name in ("relu-before-symmetric-pair", "identity-before-one", "conv-hardswish", "trt-opset")
}
RELU = graph("(float[2] x) => (float[2] y) { y = Relu(x) }")


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A runtime whose numbers are half a unit off, as the only one there is."""
    monkeypatch.setattr(backends, "__path__", [*backends.__path__])
    backends.register("wrong", str(SUPPORT / "stubs" / "wrong_backend.py"))
    monkeypatch.setattr(doctor, "BACKENDS", ("wrong",))
    yield "wrong"
    del backends.BACKENDS["wrong"], backends.OWN["wrong"]
    del sys.modules["targets.runner.backends.wrong_backend"]


def test_a_runtime_that_computes_wrongly_fails(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "known_faults", lambda device, name: known_faults(device, name, FEW))
    examined = examine_all()
    assert examined.status == FAILED and [one.ok for one in examined.findings] == [False]
    assert "largest difference from the reference 5.0e-01" in examined.findings[0].text
    assert {one.name: one.state for one in examined.known[wrong]} == {
        "relu-before-symmetric-pair": "here",
        "identity-before-one": "here",
    }, "its answers are wrong; kernels are asked of ONNX Runtime alone, and TensorRT of the linter"


def test_the_installed_runtime_passes_and_its_known_faults_are_no_failure() -> None:
    with open_device("local") as device:
        assert examine_backend("onnxruntime", device).ok is True
    with open_device("local") as device:
        states = {one.name: one.state for one in known_faults(device, "onnxruntime", FEW)}
    assert states["relu-before-symmetric-pair"] == "not here" and states["conv-hardswish"] == "here"


@pytest.mark.parametrize(
    ("findings", "status"),
    [([True], PASSED), ([True, None], PASSED), ([True, False], FAILED), ([None], UNDECIDED), ([], UNDECIDED)],
)
def test_the_status_is_that_of_the_runtimes(
    findings: list[bool | None], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(number) for number in range(len(findings))]
    found = {name: Finding(name, ok, "") for name, ok in zip(names, findings, strict=True)}
    monkeypatch.setattr(doctor, "BACKENDS", dict.fromkeys(names, ""))
    monkeypatch.setattr(doctor, "backend", lambda name: backends.backend("onnxruntime"))
    monkeypatch.setattr(doctor, "examine_backend", lambda name, device: found[name])
    monkeypatch.setattr(doctor, "known_faults", lambda device, name: [])
    assert examine_all().status == status


def fault(**more: Any) -> Fault:
    return Fault("it is wrong", "found here: nowhere", "nothing", RELU, {"x": f32(-1, 2)}, **more)


TOLD: dict[str, Any] = {
    "raised": {},
    "facts": {"f": {"float_operators": ["Conv_0"]}, "g": {"float_operators": []}},
}


@pytest.mark.parametrize(
    ("key", "one", "answer", "state", "seen"),
    [
        ("f", fault(), f32(0, 2), "not here", "the right answer"),
        ("f", fault(), f32(0, 2.1), "here", "2.1, where 2 is right"),
        ("f", fault(tolerance=0.2), f32(0, 2.1), "not here", "the right answer"),
        ("f", fault(), f32(0, np.nan), "here", "nan, where 2 is right"),
        ("f", fault(expected=lambda arrays: f32(0, np.nan)), f32(0, np.nan), "not here", "the right answer"),
        ("f", fault(), f32(0), "here", "a shape of (1,), where (2,) is right"),
        ("f", fault(look="kernels"), f32(9, 9), "here", "in float: Conv_0"),
        ("g", fault(look="kernels"), f32(9, 9), "not here", "all in int8"),
    ],
)
def test_what_came_back_is_judged(key: str, one: Fault, answer: Any, state: str, seen: str) -> None:
    found = judged(key, one, "onnxruntime", TOLD, answer, arm=False)
    assert (found.state, found.seen) == (state, seen)


@pytest.mark.parametrize(("refuses", "state"), [(True, "here"), (False, "not taken")])
def test_a_graph_that_is_refused_is_the_fault_only_where_that_is_it(refuses: bool, state: str) -> None:
    told = {"raised": {"f": "no such operator"}, "facts": {}}
    assert judged("f", fault(refuses=refuses), "onnxruntime", told, None, arm=False).state == state


def test_one_case_that_raises_leaves_the_others_alone() -> None:
    odd = graph("(float[2] x) => (float[2] y) { y = com.microsoft.NoSuchThing(x) }")
    broken = Fault("", "", "", odd, {"x": f32(-1, 2)})
    with open_device("local") as device:
        found = known_faults(device, "onnxruntime", {"broken": broken, "right": fault()})
    assert [(one.name, one.state) for one in found] == [("broken", "not taken"), ("right", "not here")]
    assert "NoSuchThing" in found[0].seen


def test_what_the_linter_would_let_pass_is_here() -> None:
    assert {one.state for one in linted()} == {"not here"}
    passes = Fault("", "", "", RELU, look="tensorrt", rule="opset")
    assert [one.state for one in linted({"passes": passes, "other": fault()})] == ["here"]


@pytest.mark.skipif(not home().exists(), reason="not installed; retort emulator install")
def test_an_emulated_core_without_dot_product_overflows() -> None:
    """And products of uint8 and int8 do not saturate there, as they do on x86 without VNNI."""
    few = {name: CORPUS[name] for name in ("s8s8-least-numbers", "u8s8-conv", "conv-hardswish")}
    with open_device("emulator:cortex-a72") as device:
        states = {one.name: one.state for one in known_faults(device, "onnxruntime", few)}
    assert states["u8s8-conv"] == "not here"
    assert states["conv-hardswish"] == "here", "its fusions are done here as on Arm"
    assert states["s8s8-least-numbers"] == "here"


def test_it_is_told_with_what_is_done_about_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = [Known("a", fault(), "ort", "here", "3" * 200), Known("b", fault(), "ort", "not here", "fine")]
    tell_known("ort", found, every=False)
    first, line, remedy = capsys.readouterr().out.splitlines()
    assert first == "ort: 1 of 2 known faults are here:" and remedy.strip() == "Retort: nothing"
    assert line.startswith("  HERE    a: it is wrong (333") and line.endswith("3…) [found here: nowhere]")
    tell_known("ort", found, every=True)
    assert [text.split()[0] for text in capsys.readouterr().out.splitlines()] == [
        "ort:",
        "HERE",
        "-",
        "Retort:",
    ]
    tell_known("ort", found[1:], every=False)
    assert capsys.readouterr().out == "ort: 0 of 1 known faults are here\n"


def test_the_command_ends_with_the_status_of_the_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def examined(device: str) -> Examination:
        given.append(device)
        return Examination([Finding("ort", False, "off by one")], {}, FAILED)

    monkeypatch.setattr(doctor, "examine_all", examined)
    done = CliRunner().invoke(app, ["doctor", "--device", "emulator:cortex-a72"])
    assert done.exit_code == FAILED and "ort          FAIL  off by one" in done.output
    assert given == ["emulator:cortex-a72"]
