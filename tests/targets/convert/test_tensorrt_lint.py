"""The linter over a corpus of graphs, of which each bad one breaks one rule; NVIDIA's parser as its witness."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from support import ROOT
from support.qdq import network, regridded
from support.trt_graphs import CASES, good, outside
from targets.convert import tensorrt_parser as second
from targets.convert.tensorrt_lint import RULES, VERSIONS, lint
from targets.convert.tensorrt_parser import second_opinion
from targets.errors import Refusal

# Files that tensorrt-rtx 1.7.1 takes and the linter does not, with the reason why it does not.
RTX_TAKES = {
    "microsoft-gelu": "RTX looks operators up by their name, whatever the domain",
    "layer-norm-on-8.5": "RTX has the operator; 8.5 has not",
    "two-inputs-on-8.5": "RTX takes the zero point as 0",
    "int8-weights-on-8.5": "RTX takes int8 constants; TensorRT did not up to 8.4.1",
    "axes-input-on-8.5": "RTX reads the input",
    "opset-21-on-10.3": "RTX knows later opsets, and refuses none for its number",
    "opset-18-on-8.5": "RTX knows later opsets, and refuses none for its number",
    "no-axis": "RTX means axis 1, as ONNX; the importers up to 10.6 mean 0",
    "uint8-at-0": "RTX quantizes in int8 instead, with a warning: all above 127 steps is lost",
    "uint8-by-omission": "RTX quantizes in int8 instead: all above 127 steps is lost",
    "scale-inf": "RTX checks that scales are above 0, which infinity is",
    "activation-per-channel": "RTX checks the number of scales only; NVIDIA documents them for weights only",
    "float64": "RTX computes in float32 instead",
    "open-sides": "RTX takes any shape; a profile of ours gives the batch alone",
}


def refused(name: str) -> bool:
    return bool(CASES[name].rule)


@pytest.mark.parametrize("name", CASES)
def test_a_graph_breaks_the_rule_it_is_made_for_and_no_other(name: str) -> None:
    case = CASES[name]
    findings = lint(case.make(), case.version)
    assert {finding.rule for finding in findings} == ({case.rule} if case.rule else set())


@pytest.mark.parametrize("name", filter(refused, CASES))
def test_a_finding_says_where_why_and_what_to_do(name: str) -> None:
    case = CASES[name]
    model = case.make()
    tensors = {t for n in model.graph.node for t in (n.name, *n.input, *n.output)} | {"the model"}
    for finding in lint(model, case.version):
        assert case.says in f"{finding.node}: {finding.reason}"
        assert any(part in finding.node for part in filter(None, tensors)), finding.node
        assert finding.reason and finding.mend and "{" not in finding.mend
        assert str(finding) == f"{finding.node}: {finding.reason}; {finding.mend}"
        assert "\n" not in str(finding)


def test_every_rule_has_a_graph_that_breaks_it() -> None:
    assert {case.rule for case in CASES.values()} - {""} == set(RULES)


@pytest.mark.parametrize(
    "name", ["two-inputs", "unsaid-axis", "int8-constant", "reduce-axes", "lacking-operator"]
)
def test_what_later_versions_mend_is_no_finding_there(name: str) -> None:
    assert set(RULES[name].versions) < set(VERSIONS)
    (case,) = (case for case in CASES.values() if case.rule == name)
    for version in set(VERSIONS) - set(RULES[name].versions):
        assert name not in {finding.rule for finding in lint(case.make(), version)}


@pytest.mark.parametrize("form", ["u8", "u8-narrow"])
def test_the_form_for_cpus_is_refused(form: str) -> None:
    model = network(["relu", "conv"], seed=3)
    assert lint(model, "10.3") == []
    found = lint(regridded(model, form), "10.3")
    assert "uint8" in {finding.rule for finding in found}
    assert all('rewrite = "none"' in finding.mend for finding in found)


def test_a_rule_looks_into_branches() -> None:
    inner = CASES["scale-0"].make().graph
    del inner.input[:]
    flag = helper.make_node("If", ["yes"], ["y"], "branch", then_branch=inner, else_branch=good().graph)
    inputs = [helper.make_tensor_value_info("yes", TensorProto.BOOL, []), *good().graph.input]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])]
    model = helper.make_model(helper.make_graph([flag], "outer", inputs, outputs), ir_version=9)
    assert "scale-value" in {finding.rule for finding in lint(model, "11")}


def test_a_version_that_is_not_known_is_refused() -> None:
    with pytest.raises(Refusal, match=r"tensorrt: no version of TensorRT named '10.4'; did you mean '10.3'"):
        lint(good(), "10.4")


def test_a_model_of_no_opset_is_refused() -> None:
    model = good()
    del model.opset_import[:]
    with pytest.raises(Refusal, match="which opset of ONNX"):
        lint(model, "11")


def test_values_outside_the_file_are_a_finding_before_they_are_missed(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(outside(), path)
    (finding,) = lint(onnx.load(path, load_external_data=False), "10.3")
    assert finding.rule == "external-data"


def saved(model: ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def opinions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[list[str] | None]]:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("NVIDIA's parser is not installed: pip install 'retort[tensorrt-rtx]'")
    folder = tmp_path_factory.mktemp("corpus")
    with ThreadPoolExecutor(2) as pool:
        files = {name: saved(case.make(), folder / f"{name}.onnx") for name, case in CASES.items()}
        return {name: pool.submit(second_opinion, path) for name, path in files.items()}


@pytest.mark.parametrize("name", CASES)
def test_nvidia_s_parser_agrees(name: str, opinions: dict[str, Future[list[str] | None]]) -> None:
    objections = opinions[name].result()
    assert objections is not None
    if name in RTX_TAKES:
        assert refused(name) and objections == [], f"no exception any more: {objections}"
    else:
        assert bool(objections) == refused(name), objections


def test_a_parser_that_dies_is_an_objection(opinions: dict[str, Future[list[str] | None]]) -> None:
    (objection,) = opinions["computed-scale"].result() or []
    assert objection.startswith("computed-scale.onnx: tensorrt-rtx ended with status -")


def test_without_nvidia_s_parser_there_is_no_opinion(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(second.importlib.util, "find_spec", lambda name: None)
    assert second_opinion(saved(good(), tmp_path / "model.onnx")) is None


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="pip install tensorrt-rtx")
def test_no_module_of_the_folder_where_one_stands_is_asked(tmp_path: Path) -> None:
    """A repository that has a targets/convert/tensorrt_parser.py of its own."""
    for folder in ("targets", "targets/convert"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "targets" / "convert" / "tensorrt_parser.py").write_text("open('ran', 'w')\n")
    onnx.save(good(), tmp_path / "model.onnx")
    code = "import sys, pathlib; from targets.convert.tensorrt_parser import second_opinion as ask; "
    command = [sys.executable, "-P", "-c", f"{code}print(ask(pathlib.Path('model.onnx')))"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]" and not (tmp_path / "ran").exists()
