"""The known faults: what each expects by ONNX's own evaluator, and a runtime without optimisations as a witness."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from targets.convert.tensorrt_lint import RULES, lint
from targets.convert.tensorrt_parser import second_opinion
from targets.diagnose.corpus import CORPUS
from targets.diagnose.corpus.fault import Fault
from targets.diagnose.corpus.operators import nearest_ceil
from targets.diagnose.explain import explain
from targets.runner.backends import BACKENDS
from targets.spec.profile import read_profile

ANSWERS = [name for name, fault in CORPUS.items() if fault.look == "answers"]
KERNELS = [name for name, fault in CORPUS.items() if fault.look == "kernels"]
TENSORRT = [name for name, fault in CORPUS.items() if fault.look == "tensorrt"]
# What ONNX Runtime answers wrongly operator by operator too, on some processor or on all.
UNOPTIMISED = {
    "u8s8-matmulinteger",
    "u8s8-dynamic",
    "u8s8-qgemm",
    "weights-below-zero-point",
    "sum-rounds-down",
}


def near(found: NDArray[np.generic], fault: Fault) -> bool:
    expected = np.asarray(fault.answer())
    wide = np.asarray(found).astype(np.float64)
    return wide.shape == expected.shape and np.allclose(
        wide, expected.astype(np.float64), rtol=0, atol=fault.tolerance, equal_nan=True
    )


def test_there_are_enough_and_each_says_where_it_is_from() -> None:
    threads = {fault.source for fault in CORPUS.values() if re.fullmatch(r"[\w-]+/[\w-]+#\d+", fault.source)}
    assert len(CORPUS) >= 50 and len(threads) >= 25
    for name, fault in CORPUS.items():
        assert fault.source in threads or fault.source.startswith("found here: "), name
        assert fault.wrong and fault.remedy and "\n" not in fault.wrong + fault.remedy, name
        assert set(fault.runtimes) <= set(BACKENDS), name
        assert bool(fault.rule) == (fault.look == "tensorrt"), name


@pytest.mark.parametrize("name", CORPUS)
def test_each_graph_is_valid_onnx(name: str) -> None:
    fault = CORPUS[name]
    broken = name in ("trt-scale-count", "trt-axes-as-input", "trt-scale-not-a-number")
    if not broken:
        onnx.checker.check_model(fault.model, full_check="com.microsoft" not in str(fault.model.graph.node))


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_expected_is_what_the_reference_answers(name: str) -> None:
    """And where the fault says that the reference answers otherwise, it does."""
    fault = CORPUS[name]
    try:
        (found,) = ReferenceEvaluator(fault.model).run(None, fault.inputs)
    except NotImplementedError:
        assert "no operators of com.microsoft" in fault.apart
        return
    assert near(found, fault) != bool(fault.apart)


@pytest.mark.parametrize("name", sorted(set(ANSWERS) - UNOPTIMISED - {"resize-antialias-of-torch"}))
def test_onnx_runtime_operator_by_operator_is_right(name: str) -> None:
    """A second witness of the answer: without fusions there are no int8 kernels that could saturate."""
    fault = CORPUS[name]
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(fault.model.SerializeToString(), options, ["CPUExecutionProvider"])
    assert near(session.run(None, fault.inputs)[0], fault)


def test_torch_s_antialiasing_leaves_out_what_is_outside() -> None:
    functional = pytest.importorskip("torch.nn.functional")
    torch = pytest.importorskip("torch")
    fault = CORPUS["resize-antialias-of-torch"]
    x = torch.from_numpy(fault.inputs["x"])
    made = functional.interpolate(x, size=(1, 2), mode="bilinear", antialias=True)
    np.testing.assert_allclose(made.numpy(), fault.answer(), rtol=1e-5)


@pytest.mark.parametrize("name", TENSORRT)
def test_the_linter_refuses_each_by_its_rule(name: str) -> None:
    fault = CORPUS[name]
    assert fault.rule in RULES
    assert fault.rule in {one.rule for one in lint(fault.model, fault.version)}


def test_nvidia_s_own_parser_refuses_a_zero_point(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    path = tmp_path / "zero.onnx"
    onnx.save(CORPUS["trt-zero-point"].model, path)
    assert second_opinion(path)


@pytest.mark.parametrize("name", KERNELS)
def test_what_retort_writes_of_it_is_in_int8(name: str, tmp_path: Path) -> None:
    """The remedy: the same layer as a float file, quantized for this machine, has no layer in float."""
    path = tmp_path / "float.onnx"
    onnx.save(in_float(CORPUS[name].model), path)
    found = explain(path, read_profile("cpu"))
    assert (found.int8, len(found.heavy)) == (1, 1), found.operators


def in_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without its pairs, whose answer another convolution would read: a product by 1 stands for it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    values = {one.name: onnx.numpy_helper.to_array(one) for one in copy.graph.initializer}
    same, kept = dict[str, str](), list[onnx.NodeProto]()
    for node in copy.graph.node:
        if node.op_type == "QuantizeLinear":
            same[node.output[0]] = same.get(node.input[0], node.input[0])
        elif node.op_type == "DequantizeLinear" and node.input[0] in values:
            whole = values[node.input[0]].astype(np.float32) * values[node.input[1]]
            copy.graph.initializer.append(onnx.numpy_helper.from_array(whole, node.output[0]))
        elif node.op_type == "DequantizeLinear":
            same[node.output[0]] = same.get(node.input[0], node.input[0])
        else:
            node.input[:] = [same.get(name, name) for name in node.input]
            kept.append(node)
    last = same.get("y", "y")
    if last == "y":
        kept[-1].output[0] = last = "last"
    kept.append(onnx.helper.make_node("AveragePool", [last], ["y"], "pool", kernel_shape=[1, 1]))
    if len(copy.graph.output[0].type.tensor_type.shape.dim) == 2:
        kept[-1] = onnx.helper.make_node("Add", [last, last], ["y"], "sum")
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


def test_nearest_ceil_takes_the_upper_pixel_at_a_tie() -> None:
    assert nearest_ceil(20, 6) == [1, 5, 8, 11, 15, 18] and nearest_ceil(4, 4) == [0, 1, 2, 3]
