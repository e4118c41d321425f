"""Each rule on a small graph: what the runtime says that it ran in int8, and that the answers are the reference's.

ONNX Runtime is asked for its optimised graph, OpenVINO for its executed one. The reference of the answers is onnx's
evaluator on the exported file, which has a pair on every rounded tensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from support.qdq import SHAPE, Net, everything, images
from targets.convert.grid import lift
from targets.convert.int8_file import placed
from targets.convert.mobile import fuse_for_arm
from targets.convert.rewrites import rewrite
from targets.convert.rules import EVERYWHERE, FUSING, ONNXRUNTIME, OPENVINO

Draw = Callable[[Net, str], str]
SCALE = 0.05
RULES = {"onnxruntime": ONNXRUNTIME, "fusing": FUSING, "openvino": OPENVINO, "everywhere": EVERYWHERE}
HEAVY = ("Conv", "FusedConv", "Gemm", "MatMul", "FusedMatMul")


def gated(net: Net, x: str) -> str:
    """x · sigmoid(x), its gate rounded too."""
    return net.op("Mul", x, net.quantized(net.op("Sigmoid", x), 1 / 127))


def squeeze_excite(net: Net, x: str) -> str:
    mean = net.op("ReduceMean", x, net.constant(np.array([-1, -2])), keepdims=1)
    reduced = net.quantized(net.op("Relu", kernel(net, net.quantized(mean, SCALE))), SCALE)
    gate = net.op("HardSigmoid", net.quantized(kernel(net, reduced), SCALE), alpha=1 / 6, beta=0.5)
    return net.op("Mul", x, net.quantized(gate, 1 / 127))


def kernel(net: Net, x: str, size: int = 1) -> str:
    return net.op("Conv", x, net.weights(4, 4, size, size))


def shuffled(net: Net, x: str) -> str:
    """Halves that trade places, interleaved channel by channel, as ShuffleNet does."""
    halves = [f"{x}/{name}" for name in "ab"]
    net.nodes.append(onnx.helper.make_node("Split", [x], halves, name=f"{x}/split", axis=1, num_outputs=2))
    left, right = halves
    joined = net.op("Concat", net.quantized(right, SCALE), net.quantized(left, SCALE), axis=1)
    pairs = net.op("Reshape", net.quantized(joined, SCALE), net.constant(np.array([-1, 2, 2, 8, 8])))
    turned = net.op("Transpose", pairs, perm=[0, 2, 1, 3, 4])
    return net.op("Reshape", turned, net.constant(np.array([-1, 4, 8, 8])))


def linear(net: Net, x: str) -> str:
    """A linear layer on tokens, as the exporter writes one: the channels of a map are its tokens' width."""
    tokens = net.op("Transpose", net.op("Reshape", x, net.constant(np.array([-1, 4, 64]))), perm=[0, 2, 1])
    product = net.op(
        "MatMul", net.quantized(tokens, SCALE), net.op("Transpose", net.weights(4, 4), perm=[1, 0])
    )
    out = net.op("Add", product, net.constant(net.generator.normal(0, 0.2, 4).astype(np.float32)))
    back = net.op("Transpose", net.quantized(out, SCALE), perm=[0, 2, 1])
    return net.op("Reshape", back, net.constant(np.array([-1, 4, 8, 8])))


def padded(net: Net, x: str) -> str:
    zeros = net.constant(np.array([0, 0, 0, 0, 0, 0, 1, 1]))
    return kernel(net, net.quantized(net.op("Pad", x, zeros), SCALE), 2)


# What stands between two convolutions, and the operators that run in int8 for it on ONNX Runtime.
CASES: dict[str, tuple[Draw, dict[str, int]]] = {
    "relu": (lambda net, x: net.op("Relu", x), {}),
    "relu6": (lambda net, x: net.clip(x, 0), {}),
    "hardswish": (lambda net, x: net.op("HardSwish", x), {"QLinearAdd": 1, "QLinearMul": 1}),
    "hardsigmoid": (lambda net, x: net.op("HardSigmoid", x, alpha=0.2, beta=0.5), {"QLinearAdd": 1}),
    "silu": (gated, {"QLinearSigmoid": 1, "QLinearMul": 1}),
    "gelu": (lambda net, x: net.op("Gelu", x), {"QLinearSigmoid": 1, "QLinearMul": 1}),
    "leaky": (lambda net, x: net.op("LeakyRelu", x, alpha=0.1), {"QLinearLeakyRelu": 1}),
    "squeeze-excite": (
        squeeze_excite,
        {"QLinearGlobalAveragePool": 1, "QLinearConv": 2, "QLinearAdd": 1, "QLinearMul": 1},
    ),
    "shuffle": (shuffled, {"QLinearConcat": 1, "Split": 1}),
    "linear": (linear, {"QGemm": 1}),
    "pad": (padded, {"QLinearConv": 1}),
    "residual": (
        lambda net, x: net.op("Add", x, net.quantized(kernel(net, x), SCALE)),
        {"QLinearConv": 1, "QLinearAdd": 1},
    ),
    "pool": (lambda net, x: net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), {"MaxPool": 1}),
}
ENDS = {"QLinearConv": 2, "QLinearGlobalAveragePool": 1, "QGemm": 1}  # of every case
ACTIVATIONS = ("relu", "relu6", "hardswish", "hardsigmoid", "silu", "gelu", "leaky")
NO_PAIR = ("relu", "relu6")  # they are computed inside a convolution everywhere


def drawn(name: str) -> onnx.ModelProto:
    """conv → what a case draws → conv → pool and linear layer, with a pair on every rounded tensor."""
    net = Net(3)
    first = net.conv(net.quantized("images", SCALE))
    between = CASES[name][0](net, first if name in NO_PAIR else net.quantized(first, SCALE))
    last = net.op("Relu", net.conv(net.quantized(between, 6 / 127 if name == "relu6" else SCALE)))
    return net.model(net.head(net.quantized(last, SCALE), SCALE), ["batch", 3])


def optimised(model: onnx.ModelProto, folder: Path, form: str) -> Counter[str]:
    """The operators that ONNX Runtime runs; for the form of Arm as they are fused there."""
    given, made = folder / f"{form}.onnx", folder / f"{form}.fused.onnx"
    onnx.save(model, given)
    if form == "s8":
        fuse_for_arm(given, made)
    else:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(made)
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        ort.InferenceSession(str(given), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type.removeprefix("Nhwc") for node in onnx.load(made).graph.node)


@pytest.mark.parametrize("form", ["u8", "u8-narrow", "s8"])
@pytest.mark.parametrize("name", CASES)
def test_onnx_runtime_runs_it_in_int8(name: str, form: str, tmp_path: Path) -> None:
    made = placed(drawn(name), ONNXRUNTIME, form).model
    onnx.checker.check_model(made, full_check=True)
    ran, wanted = optimised(made, tmp_path, form), Counter(ENDS)
    wanted.update(CASES[name][1])
    assert not any(ran[kind] for kind in HEAVY), ran
    assert {kind: ran[kind] for kind in wanted} == dict(wanted)
    assert ran["QuantizeLinear"] == 1 and ran["DequantizeLinear"] == 0, (
        "nothing goes to float and back on the way"
    )


@pytest.mark.parametrize("form", ["none", "u8", "u8-narrow", "s8"])
@pytest.mark.parametrize("runtime", RULES)
@pytest.mark.parametrize("name", CASES)
def test_the_answers_are_the_exported_file_s(name: str, runtime: str, form: str) -> None:
    """Within what a few steps on the way can make of an answer; finer grids round less than the exported one."""
    model, batch = drawn(name), 0.3 * images(1)  # so that the trained grids cut nothing off
    expected = everything(model, batch)["logits"]
    found = everything(placed(model, RULES[runtime], form).model, batch)["logits"]
    assert np.abs(found - expected).max() <= 0.15 * float(np.abs(expected).max())
    if runtime == "everywhere" and form == "none":
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", CASES)
def test_a_rewrite_computes_what_it_replaces(name: str) -> None:
    """In float: all that is left is GELU's stand-in, which is up to 0.0203 off where its operator stands."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(drawn(name)))
    grid = lift(model.graph)
    before = everything(ir.to_proto(model), images(1))
    rewrite(model.graph, grid, ONNXRUNTIME.rewrites)
    after = everything(ir.to_proto(model), images(1))
    for tensor in (one.name for one in grid if one.name in before):
        atol = 0.0204 if name == "gelu" and tensor.startswith("gelu") else 1e-5
        if name != "gelu" or tensor.startswith(("gelu", "conv3", "images")):
            np.testing.assert_allclose(after[tensor], before[tensor], atol=atol)
    changed = {node.op_type for node in model.graph} & {
        "HardSwish",
        "HardSigmoid",
        "Gelu",
        "Pad",
        "ReduceMean",
        "MatMul",
    }
    assert not changed


def test_the_bytes_of_a_relu6_are_clipped_in_the_narrow_form() -> None:
    """Its ReLU6 ends at 127 of 255 numbers, so without a Clip the bytes would hold up to 12."""
    made = placed(drawn("relu6"), ONNXRUNTIME, "u8-narrow").model
    (clip,) = [node for node in made.graph.node if node.op_type == "Clip"]
    values = everything(made, 40 * images(1))
    assert values[clip.output[0]].dtype == np.uint8 and values[clip.output[0]].max() == 127
    assert values[clip.input[0]].max() > 127


@pytest.mark.parametrize("name", CASES)
def test_openvino_runs_it_in_int8(name: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO says what it ran")
    from targets.runner.backends import ov

    path = tmp_path / "model.onnx"
    onnx.save(placed(drawn(name), OPENVINO, "u8").model, path)
    facts = ov.build(str(path), {"threads": 1, "precision": "int8"}, str(tmp_path / "engine.onnx"))
    assert facts["float_operators"] == []
    alone = {kind for kind in facts["operators"] if kind.startswith(("Math", "Eltwise", "FakeQuantize"))}
    assert name not in ACTIVATIONS or alone <= {"FakeQuantize f32"}, "an activation runs by itself"


@pytest.mark.parametrize("name", ["hardswish", "silu", "gelu", "leaky"])
def test_openvino_and_tensorrt_get_no_pair_before_an_activation(name: str) -> None:
    made = placed(drawn(name), FUSING, "none").model
    makers = {node.output[0]: node for node in made.graph.node}
    kinds = ("HardSwish", "Sigmoid", "Gelu", "LeakyRelu")
    (activation,) = [node for node in made.graph.node if node.op_type in kinds]
    assert makers[activation.input[0]].op_type == "Conv"


def test_a_bias_too_large_for_its_products_gets_weights_on_a_coarser_scale() -> None:
    """Weights of zero have the smallest scale there is, and a bias of 3 is more than 2 ** 31 of their products."""
    net = Net(2)
    weight = net.op(
        "DequantizeLinear",
        net.constant(np.zeros((4, 4, 1, 1), np.int8)),
        net.constant(np.full(4, np.finfo(np.float32).eps)),
        net.constant(np.zeros(4, np.int8)),
        axis=0,
    )
    bias = net.constant(np.array([3, -3, 0.5, 0], np.float32))
    out = net.quantized(net.op("Conv", net.quantized("images", 0.01), weight, bias), SCALE)
    model = net.model(net.head(out, SCALE), ["batch", 3])
    expected, found = (
        everything(one, images(1))["logits"] for one in (model, placed(model, ONNXRUNTIME, "u8").model)
    )
    np.testing.assert_allclose(found, expected, atol=SCALE)


def test_a_residual_stream_that_only_a_normalisation_reads_stays_float() -> None:
    net = Net(2)
    one = kernel(net, net.quantized("images", SCALE))
    stream = net.op("Add", "images", one)
    out = net.op("LayerNormalization", stream, net.constant(np.ones(8, np.float32)), axis=-1)
    model = net.model(net.head(net.quantized(out, SCALE), SCALE), ["batch", 3])
    made = placed(model, ONNXRUNTIME, "u8").model
    (add,) = [node for node in made.graph.node if node.op_type == "Add"]
    makers = {node.output[0]: node.op_type for node in made.graph.node}
    assert "DequantizeLinear" not in {makers.get(name) for name in add.input}


def test_what_stays_float_is_named_with_its_reason() -> None:
    net = Net(2)
    x = net.quantized("images", SCALE)
    product = net.op("MatMul", "images", "images")
    up = net.op("ConvTranspose", x, net.weights(4, 4, 1, 1))
    plain = net.op("Conv", up, net.constant(np.ones((4, 4, 1, 1), np.float32)))
    unread = kernel(net, net.op("Add", plain, product))
    last = kernel(net, net.quantized(unread, SCALE))
    made = placed(net.model(last, ["batch", *SHAPE[1:]]), ONNXRUNTIME, "u8")
    assert made.left_float == {
        product: "a product of two tensors, which int8 was not seen to speed up",
        up: "the runtime has no int8 kernel for it",
        plain: "its weight is not on the grid",
        unread: "what it reads is not on the grid",
        last: "what it gives is not on the grid: it is an answer",
    }


def test_a_linear_layer_on_rows_is_told_as_the_product_that_it_became() -> None:
    net = Net(2)
    weight = net.op("Transpose", net.weights(8, 8), perm=[1, 0])
    product = net.op("MatMul", net.quantized("images", SCALE), weight)
    total = net.op("Add", product, net.constant(np.ones(8, np.float32)))
    out = kernel(net, net.quantized(total, SCALE))
    made = placed(net.model(net.op("Relu", out), ["batch", *SHAPE[1:]]), ONNXRUNTIME, "u8")
    fates = {one.name: (one.runs, one.why) for one in made.operators}
    assert fates[product] == ("int8", "inside the operator beside it")
    assert fates[total] == ("int8", "written as Gemm") and weight not in fates
