"""The way to a Jetson, over a real sshd, with a stand-in for TensorRT: SIMULATED, always."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from support import SUPPORT
from support.board import SSHD, Board
from targets.budgets.evidence import TestSet
from targets.bundle.bundle import Bundle, read_bundle, write_bundle
from targets.bundle.prove import prove, report_of
from targets.limits import Budgets
from targets.measuring.candidate import Candidate
from targets.report.table import write_report
from targets.runner.backends.trtexec import JETPACK, figures, quantiles
from targets.spec.contract import Contract
from targets.spec.profile import read_profile

STUBS = SUPPORT / "stubs"
CLASSES = ("a", "b", "c", "d", "e")

pytestmark = [
    pytest.mark.skipif(SSHD is None, reason="no sshd; apt-get install openssh-server"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for the stand-in of CUDA"),
]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Board]:
    """A host behind sshd whose Python finds the stand-ins, as a Jetson's finds JetPack's packages."""
    libraries = tmp_path / "lib"
    libraries.mkdir()
    source = STUBS / "cudart.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", libraries / "libcudart.so", source], check=True)
    board = Board(tmp_path)
    monkeypatch.setattr("targets.devices.ssh.LOCK", str(tmp_path / "retort.lock"))  # not this machine's own
    monkeypatch.setattr("targets.measuring.measure.open_device", board.device)
    path = f"{Path(sys.executable).parent}:{STUBS}"
    stub = {"STUB_TENSORRT": getattr(request, "param", "10.3.0"), "RETORT_CACHE": str(tmp_path / "cache")}
    with board.running(PATH=path, PYTHONPATH=str(STUBS), LD_LIBRARY_PATH=str(libraries), **stub):
        yield board


@pytest.fixture
def bundle(small_network: Callable[[str], Path], small_images: np.ndarray, tmp_path: Path) -> Bundle:
    size = small_images.shape[1]
    contract = Contract("nchw-float32", (size, size), CLASSES)
    plain = small_network("nchw-float32")
    np.save(tmp_path / "images.npy", small_images)
    labels = np.arange(len(small_images)) % len(CLASSES)
    profile = read_profile("jetson").model_copy(update={"seconds": 0.5, "batch": 2})
    candidates = [Candidate("float", plain, "float32"), Candidate("native", plain, "native")]
    budgets = Budgets(accuracy=0.1, p99_ms=1000.0, size_mb=10.0)
    test_set = TestSet(labels, CLASSES, {})
    return Bundle("test", profile, budgets, contract, candidates, tmp_path / "images.npy", test_set, [], {})


def test_the_whole_way_ends_simulated_and_never_in_a_pass(
    board: Board, bundle: Bundle, tmp_path: Path
) -> None:
    write_bundle(bundle, tmp_path / "bundle")
    read = read_bundle(tmp_path / "bundle")
    proof = prove(read, "ssh://board", tmp_path / "out")
    table = proof.table
    assert {line["outcome"] for line in table["lines"]} == {"SIMULATED"}
    assert table["status"] == 3 and table["ship"] is None
    assert set(table["candidates"]) == {"float", "native"}
    assert table["candidates"]["float"]["facts"]["tensorrt"] == "10.3.0"
    vendor = table["candidates"]["native"]["facts"]["vendor"]
    assert {name: vendor[name] for name in ("p50_ms", "p99_ms", "gpu_p50_ms", "calls")} == {
        "p50_ms": pytest.approx(1.5),
        "p99_ms": pytest.approx(1.99),
        "gpu_p50_ms": 0.5,
        "calls": 101,
    }
    assert "--shapes=images:2x3x8x8" in vendor["command"]
    report = report_of([read], [proof])
    write_report(report, tmp_path / "out")
    assert report["status"] == 3 and report["agreement_matrix"] == [], "a stand-in certifies nothing"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "SIMULATED" in page and "vendor's own timing" in page and "1.99" in page
    assert "<error" in (tmp_path / "out" / "junit.xml").read_text()
    assert set(board.left()) <= {"built"}


@pytest.mark.parametrize("board", ["11.0.0"], indirect=True)
def test_version_11_gets_the_types_in_the_graph_and_no_flags(
    board: Board, bundle: Bundle, tmp_path: Path
) -> None:
    newer = replace(bundle, profile=read_profile("jetson-trt11").model_copy(update={"seconds": 0.5}))
    write_bundle(newer, tmp_path / "bundle")
    proof = prove(read_bundle(tmp_path / "bundle"), "ssh://board", tmp_path / "out")
    table = proof.table
    assert {line["outcome"] for line in table["lines"]} == {"SIMULATED"}, table["reason"]
    facts = {name: one["facts"] for name, one in table["candidates"].items()}
    assert facts["native"]["rewrite"] == "tensorrt-11-fp16" and facts["float"]["rewrite"] == "tensorrt-11"
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "bundle" / "native.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds and onnx.TensorProto.FLOAT not in kinds
    assert table["candidates"]["native"]["agreement"]["largest"] < 0.05


@pytest.mark.parametrize("board", ["11.0.0"], indirect=True)
def test_a_device_with_another_major_version_is_told(board: Board, bundle: Bundle, tmp_path: Path) -> None:
    proof = prove(bundle, "ssh://board", tmp_path / "out")
    table = proof.table
    assert {line["outcome"] for line in table["lines"]} == {"NOT MEASURED"}
    assert "this device has TensorRT 11.0.0, the profile is for 10.3" in table["reason"]


def test_engines_are_kept_on_the_board_where_the_profile_asks_for_it(
    board: Board, bundle: Bundle, tmp_path: Path
) -> None:
    keeps = replace(bundle, profile=bundle.profile.model_copy(update={"engine_cache": True}))
    for times in range(2):
        prove(keeps, "ssh://board", tmp_path / f"out {times}")
    built = (board.home / "built").read_text().count("engine")
    assert built == len(bundle.candidates), "the second time nothing is built"
    kept = list((tmp_path / "cache" / "retort" / "engines").glob("*.engine"))
    assert len(kept) == len(bundle.candidates)


@pytest.mark.parametrize(("target", "version"), [("jetson", "10.3.0"), ("jetson-trt11", "11.0.0")])
def test_the_commands_of_a_bundle_are_those_that_the_version_s_tool_takes(
    target: str, version: str, bundle: Bundle, tmp_path: Path
) -> None:
    write_bundle(replace(bundle, profile=read_profile(target)), tmp_path / "bundle")
    lines = (tmp_path / "bundle" / "NEXT.md").read_text().splitlines()
    commands = [line.split()[1:] for line in lines if line.strip().startswith(JETPACK)]
    assert len(commands) == len(bundle.candidates)

    def run(words: list[str], stub: str) -> int:
        command = [sys.executable, str(STUBS / "trtexec"), *words]
        environment = {"STUB_TENSORRT": stub, "PATH": ""}
        done = subprocess.run(command, cwd=tmp_path / "bundle", env=environment, capture_output=True)
        return done.returncode

    assert [run(words, version) for words in commands] == [0] * len(commands)
    if version.startswith("10."):
        assert 1 in [run(words, "11.0.0") for words in commands], "the newer tool has lost --fp16"


def test_the_answers_come_through_cuda_s_copies_as_onnx_runtime_gives_them(
    board: Board, bundle: Bundle, small_images: np.ndarray, tmp_path: Path
) -> None:
    import onnxruntime

    from targets.measuring.measure import measure

    found = measure(
        bundle.candidates, bundle.contract, bundle.profile, "ssh://board", bundle.images, tmp_path / "out"
    )
    session = onnxruntime.InferenceSession(bundle.candidates[0].model, providers=["CPUExecutionProvider"])
    (expected,) = session.run(["logits"], {"images": bundle.contract.prepare(small_images)})
    for one in found.candidates.values():
        np.testing.assert_allclose(one.logits, expected, atol=1e-5)
    assert found.simulated
    assert len(small_images) % bundle.profile.batch != 0, "the last batch is filled up, and cut again"


def test_a_graph_that_tensorrt_would_refuse_is_told_with_node_and_mend(
    bundle: Bundle, tmp_path: Path
) -> None:
    from targets.errors import Refusal

    model = onnx.load(bundle.candidates[0].model)
    grid = [
        numpy_helper.from_array(np.array(0.01, np.float32), "s"),
        numpy_helper.from_array(np.uint8(128), "z"),
    ]
    model.graph.initializer.extend(grid)
    pair = [
        helper.make_node("QuantizeLinear", ["images", "s", "z"], ["q"], name="asymmetric"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    ]
    model.graph.node[0].input[0] = "d"
    nodes = [*pair, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, bundle.candidates[0].model)
    with pytest.raises(Refusal, match=r"TensorRT 10\.3 would not take it: .*asymmetric.*; "):
        write_bundle(bundle, tmp_path / "bundle")


def test_a_missing_runtime_on_the_board_is_not_measured(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(tmp_path)
    monkeypatch.setattr("targets.devices.ssh.LOCK", str(tmp_path / "retort.lock"))  # not this machine's own
    monkeypatch.setattr("targets.measuring.measure.open_device", board.device)
    with board.running():
        table = prove(bundle, "ssh://board", tmp_path / "out").table
    assert table["status"] == 3
    assert {line["outcome"] for line in table["lines"]} == {"NOT MEASURED"}
    assert "JetPack" in table["reason"]


def test_trtexec_s_times_of_another_form_are_told_as_such() -> None:
    assert quantiles([{"latencyMs": 2.0, "computeMs": 1.0}])["p50_ms"] == 2.0
    for rows in ([{"latency": 1.0}], {"a": 1}, [3], [{"latencyMs": "?", "computeMs": 1}]):
        assert "of another form" in quantiles(rows)["missing"]
    assert quantiles([]) == {"missing": "it timed nothing"}


def test_a_board_without_trtexec_or_with_a_broken_one_is_measured_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no trtexec here" in figures("engine", "images:1x3x8x8")["missing"]
    (tmp_path / "trtexec").write_text("#!/bin/sh\necho no memory; exit 1\n")
    (tmp_path / "trtexec").chmod(0o755)
    assert figures("engine", "images:1x3x8x8")["missing"] == "it failed: no memory"
