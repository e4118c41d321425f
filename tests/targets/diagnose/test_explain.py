"""explain: what of a file will run in int8, held to the runtime's own graph, and files that cannot be quantized."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from support.qdq import Net, network
from targets.convert.reasons import Operator
from targets.diagnose import explain as explaining
from targets.diagnose.explain import NOT_FUSED, Explanation, explain
from targets.errors import Refusal
from targets.spec.profile import read_profile

CPU = read_profile("cpu")


def fates(found: Explanation) -> dict[str, tuple[str, str]]:
    return {one.name: (one.runs, one.why) for one in found.operators}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Of every fate one operator: the names say which."""
    generator = np.random.default_rng(0)
    constant = lambda name, *shape: numpy_helper.from_array(
        generator.normal(0, 0.4, shape).astype(np.float32), name
    )
    node = lambda kind, inputs, name, **more: helper.make_node(kind, inputs, [name], name=name, **more)
    nodes = [
        node("Conv", ["images", "w"], "int8", pads=[1, 1, 1, 1]),
        node("Relu", ["int8"], "absorbed"),
        node("Conv", ["absorbed", "v"], "second", pads=[1, 1, 1, 1]),
        node("HardSwish", ["second"], "spelled"),
        node("MaxPool", ["spelled"], "carried", kernel_shape=[2, 2]),
        node("Tanh", ["carried"], "no-kernel"),
        node("ConvTranspose", ["no-kernel", "u"], "up"),
        node("MatMul", ["up", "up"], "two-tensors"),
        node("Shape", ["two-tensors"], "shape"),
        node("Conv", ["two-tensors", "u"], "answer"),
    ]
    graph = helper.make_graph(
        nodes,
        "mixed",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [
            helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", 4, 4, 4]),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [4]),
        ],
        [constant("w", 4, 3, 3, 3), constant("v", 4, 4, 3, 3), constant("u", 4, 4, 1, 1)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, tmp_path / "mixed.onnx")
    return tmp_path / "mixed.onnx"


def test_every_operator_has_a_fate_with_its_reason(mixed: Path) -> None:
    found = explain(mixed, CPU)
    assert fates(found) == {
        "int8": ("int8", ""),
        "absorbed": ("int8", "inside the operator beside it"),
        "second": ("int8", ""),
        "node": (
            "int8",
            "written as Add, Mul",
        ),  # of HardSwish the cleaned file has a HardSigmoid and a product
        "node_1": ("int8", ""),
        "carried": ("int8", "the bytes are passed on"),
        "no-kernel": ("float", "the runtime has no int8 kernel for it"),
        "up": ("float", "the runtime has no int8 kernel for it"),
        "two-tensors": ("float", "a product of two tensors, which int8 was not seen to speed up"),
        "shape": ("shapes", ""),
        "answer": ("float", "what it gives is not on the grid: it is an answer"),
    }
    assert (found.int8, len(found.heavy)) == (2, 5)
    assert found.plan is not None and found.plan["QLinearConv"] == 2 and "own graph" in found.counted


def test_the_runtime_s_own_graph_has_the_last_word(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"operators": {"Conv": 1}, "float_operators": ["second"]}
    monkeypatch.setattr(explaining, "asked", lambda *_: facts)
    found = explain(mixed, CPU)
    assert fates(found)["second"] == ("float", NOT_FUSED) and (found.int8, found.notes) == (1, ())
    facts["float_operators"] = [f"unknown/Gemm_{number}" for number in range(5)]
    assert "runs 2 more in float than is told here: unknown/Gemm_0" in explain(mixed, CPU).notes[0]


@pytest.mark.parametrize(
    ("target", "word", "note"),
    [
        ("rpi5", "own graph, fused as on Arm", ""),
        ("openvino", "own graph", ""),
        ("jetson", "by tensorrt's rules: it builds on the device", ""),
        ("android-litert", "by litert's rules: its file is made of a recipe's network", ""),
    ],
)
def test_each_target_is_explained_by_its_own_rules(
    target: str, word: str, note: str, network: Callable[[str], Path]
) -> None:
    found = explain(network("nchw-float32"), read_profile(target))
    assert word in found.counted and found.notes == ()
    assert (found.int8, len(found.heavy)) == (3, 3)


def test_what_tensorrt_would_not_take_is_said_and_the_rest_told(tmp_path: Path, mixed: Path) -> None:
    model = onnx.load(mixed)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, mixed)
    found = explain(mixed, read_profile("jetson"))
    assert "only the batch may be open" in found.notes[0] and found.int8 == 3


def test_a_quantized_file_is_told_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    onnx.save(network(["relu", "add"], 3), path)
    found = explain(path, CPU)
    assert "quantized already" in found.notes[0]
    assert found.plan is not None
    assert found.int8 == sum(found.plan.get(kind, 0) for kind in ("QLinearConv", "QGemm", "QLinearMatMul"))


def test_operators_on_integers_count_as_int8(tmp_path: Path) -> None:
    net = Net(0)
    scale, zero = net.constant(np.float32(0.1)), net.constant(np.uint8(3))
    bytes_ = net.op("QuantizeLinear", "images", scale, zero)
    weight = net.constant(np.ones((4, 4, 1, 1), np.int8))
    one, none = net.constant(np.float32(1)), net.constant(np.int8(0))
    made = net.op("QLinearConv", bytes_, scale, zero, weight, one, none, scale, zero)
    path = tmp_path / "operators.onnx"
    onnx.save(net.model(net.op("DequantizeLinear", made, scale, zero), ["batch", 4, 8, 8]), path)
    assert (
        Operator(made, "QLinearConv", "int8", "it is an operator on integers itself")
        in explain(path, CPU).operators
    )


def test_a_file_without_convolutions_is_told_too(tmp_path: Path) -> None:
    net = Net(0)
    total = net.op("Add", "images", "images")
    tanh = net.op("Tanh", total)
    onnx.save(net.model(tanh, ["batch", 4, 8, 8]), tmp_path / "sums.onnx")
    found = explain(tmp_path / "sums.onnx", CPU)
    assert found.heavy == [] and fates(found)[tanh] == ("float", "the runtime has no int8 kernel for it")
    onnx.save(Net(0).model("images", ["batch", 4, 8, 8]), tmp_path / "nothing.onnx")
    assert "no convolution or linear layer" in explain(tmp_path / "nothing.onnx", CPU).notes[0]


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("words")
    with pytest.raises(Refusal, match="not a usable ONNX file"):
        explain(tmp_path / "text.onnx", CPU)


def test_a_node_that_fits_a_known_fault_is_marked(tmp_path: Path) -> None:
    net = Net(0)
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}
    known = net.op("AveragePool", "images", ceil_mode=1, **pool)
    onnx.save(
        net.model(net.op("Relu", net.op("AveragePool", known, **pool)), ["batch", 4, "h", "w"]),
        tmp_path / "p.onnx",
    )
    for target, here in (("cpu", False), ("openvino", True), ("rpi5", None)):
        found = {one.fault: one for one in explain(tmp_path / "p.onnx", read_profile(target)).troubles}
        assert set(found) == {"average-pool-behind-the-end", "average-pool-of-torch"}
        one = found["average-pool-of-torch"]
        assert (one.nodes, one.here) == ([f"AveragePool {known}"], here)
        assert one.source == "pytorch/pytorch#183528"
