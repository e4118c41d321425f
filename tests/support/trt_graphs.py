"""Graphs for the tests of TensorRT's rules: good ones, and bad ones of which each breaks one rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from support.qdq import SHAPE, Net

FLOAT, INT8, INT32 = TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT32


def good(opset: int = 18) -> ModelProto:
    """Two quantized layers and float biases, as this project exports them."""
    net = Net(1)
    x = net.quantized(net.op("Relu", net.conv(net.quantized("images", 0.05))), 0.05)
    return of_opset(net.model(net.head(x, 0.05), ["batch", 3]), opset)


def of_opset(model: ModelProto, opset: int) -> ModelProto:
    model.opset_import[0].version = opset
    return model


def oldest() -> ModelProto:
    """For 8.5: opset 17, weights quantized in the graph."""
    net = Net(2)
    weights = net.constant(net.generator.normal(0, 1, (4, 4, 3, 3)).astype(np.float32))
    scales, zeros = net.constant(np.full(4, 0.02, np.float32)), net.constant(np.zeros(4, np.int8))
    grid = net.op("QuantizeLinear", weights, scales, zeros, axis=0)
    kernel = net.op("DequantizeLinear", grid, scales, zeros, axis=0)
    x = net.op("Conv", net.quantized("images", 0.05), kernel, pads=[1, 1, 1, 1])
    return of_opset(net.model(x, ["batch", *SHAPE[1:]]), 17)


def nodes(model: ModelProto, kind: str) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type == kind]


def activation(model: ModelProto) -> tuple[NodeProto, NodeProto]:
    """The first pair around what flows."""
    quantize = nodes(model, "QuantizeLinear")[0]
    (restore,) = (n for n in nodes(model, "DequantizeLinear") if n.input[0] == quantize.output[0])
    return quantize, restore


def kernel(model: ModelProto) -> NodeProto:
    """The DequantizeLinear of the convolution's weights."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return next(n for n in nodes(model, "DequantizeLinear") if n.input[0] in constants)


def put(model: ModelProto, name: str, value: Any) -> str:
    """A constant, new or in the place of another."""
    kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(value), name)])
    return name


def feed(model: ModelProto, kind: int, shape: list[Any], *first: NodeProto) -> ModelProto:
    """Another input; ``first`` makes ``images`` of it."""
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("raw", kind, shape))
    own = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*first, *own])
    return model


def first_pair(opset: int = 18, **values: Any) -> Callable[[], ModelProto]:
    """With another ``scale`` or ``zero`` (point) around what flows first."""

    def make() -> ModelProto:
        model = good(opset)
        for part, value in values.items():
            put(model, activation(model)[0].input[{"scale": 1, "zero": 2}[part]], value)
        return model

    return make


def small(op: NodeProto, kind: int, out: int, *constants: onnx.TensorProto, opset: int = 18) -> ModelProto:
    """One node between an input x and an output y, both of four columns."""
    x, y = (helper.make_tensor_value_info(n, k, ["batch", 4]) for n, k in (("x", kind), ("y", out)))
    graph = helper.make_graph([op], "small", [x], [y], list(constants))
    entries = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=entries, ir_version=9)


def integers(kind: str, inputs: str, out: int) -> Callable[[], ModelProto]:
    constants = {"w": np.ones((4, 4), np.int8), "s": np.float32(0.1), "z": np.int8(0)}
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items() if n in inputs]
    node = helper.make_node(kind, list(inputs), ["y"], name=kind)
    return lambda: small(node, INT8, out, *tensors)


def conv_integer() -> ModelProto:
    model = good()
    place = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Conv")
    conv = model.graph.node[place]
    inputs = [activation(model)[0].output[0], put(model, "k", np.ones((4, 4, 3, 3), np.int8))]
    out = conv.output[0]
    conv.CopyFrom(helper.make_node("ConvInteger", inputs, ["sums"], "sums", pads=[1, 1, 1, 1]))
    model.graph.node.insert(place + 1, cast("sums", out))
    return model


def dynamic() -> ModelProto:
    model = good()
    quantize, restore = activation(model)
    del restore.input[:]
    restore.input.extend(["grid", "step", "middle"])
    quantize.CopyFrom(
        helper.make_node("DynamicQuantizeLinear", ["images"], ["grid", "step", "middle"], "ranges")
    )
    return model


def foreign(kind: str) -> Callable[[], ModelProto]:
    node = helper.make_node(kind, ["x"], ["y"], kind, domain="com.microsoft")
    return lambda: small(node, FLOAT, FLOAT)


def layer_norm() -> ModelProto:
    scale = numpy_helper.from_array(np.ones(4, np.float32), "scale")
    norm = helper.make_node("LayerNormalization", ["x", "scale"], ["y"], "norm")
    return small(norm, FLOAT, FLOAT, scale, opset=17)


def without_type() -> ModelProto:
    """A Q/DQ pair of two inputs: by ONNX, of uint8."""
    model = good()
    for node in activation(model):
        del node.input[2]
    return model


def two_inputs() -> ModelProto:
    model = oldest()
    del nodes(model, "DequantizeLinear")[1].input[2]
    return model


def quantized_bias() -> ModelProto:
    model = good()
    put(model, "b", np.arange(4, dtype=np.int32))
    put(model, "bs", np.full(4, 0.001, np.float32))
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["b", "bs"], ["bias"], "bias", axis=0))
    nodes(model, "Conv")[0].input[2] = "bias"
    return model


def three_scales() -> ModelProto:
    model = good()
    node = kernel(model)
    put(model, node.input[1], np.full(3, 0.01, np.float32))
    put(model, node.input[2], np.zeros(3, np.int8))
    return model


def channels() -> ModelProto:
    model = good()
    put(model, "scales", np.full(SHAPE[1], 0.05, np.float32))
    put(model, "zeros", np.zeros(SHAPE[1], np.int8))
    for node in activation(model):
        node.input[1:] = ["scales", "zeros"]
        node.attribute.append(helper.make_attribute("axis", 1))
    return model


def no_axis() -> ModelProto:
    model = good()
    del kernel(model).attribute[:]
    return model


def computed() -> ModelProto:
    model = good()
    model.graph.node.insert(0, helper.make_node("ReduceMax", ["images"], ["top"], "top", keepdims=0))
    for node in activation(model):
        node.input[1] = "top"
    return model


def reduce_mean() -> ModelProto:
    axes = numpy_helper.from_array(np.array([1]), "axes")
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["y"], "mean")
    # Declared one opset too old, so that nothing else is wrong with it.
    return small(mean, FLOAT, FLOAT, axes, opset=17)


def cast(source: str, out: str, to: int = FLOAT) -> NodeProto:
    return helper.make_node("Cast", [source], [out], f"to-{out}", to=to)


def text() -> ModelProto:
    return small(helper.make_node("Identity", ["x"], ["y"]), TensorProto.STRING, TensorProto.STRING)


def fed_with(kind: int) -> Callable[[], ModelProto]:
    """Another element type than float32, cast at once."""
    return lambda: feed(good(), kind, ["batch", *SHAPE[1:]], cast("raw", "images"))


def bytes_turned() -> ModelProto:
    turn = helper.make_node("Transpose", ["raw"], ["turned"], "turn", perm=[0, 3, 1, 2])
    shape = ["batch", *SHAPE[2:], SHAPE[1]]
    return feed(good(), TensorProto.UINT8, shape, turn, cast("turned", "images"))


def bytes_inside() -> ModelProto:
    first = [cast("raw", "bytes", TensorProto.UINT8), cast("bytes", "images")]
    return feed(good(), FLOAT, ["batch", *SHAPE[1:]], *first)


def open_sides() -> ModelProto:
    model = good()
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "side"
    return model


def outside() -> ModelProto:
    model = good()
    (tensor,) = (t for t in model.graph.initializer if t.name == kernel(model).input[0])
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    tensor.ClearField("raw_data")
    return model


def constant_nodes() -> ModelProto:
    model = good()
    zero = numpy_helper.from_array(np.int8(0), "zero")
    for index, held in ((1, {"value_float": 0.05}), (2, {"value": zero})):
        model.graph.node.insert(0, helper.make_node("Constant", [], [f"c{index}"], **held))
    for node in activation(model):
        node.input[1:] = ["c1", "c2"]
    return model


@dataclass(frozen=True)
class Case:
    """A graph, the rule that it breaks (empty for none), and what the finding must speak of."""

    make: Callable[[], ModelProto]
    rule: str = ""
    says: str = ""
    version: str = "10.3"


CASES = {
    "good": Case(good),
    "good-opset-20": Case(lambda: good(20)),
    "good-25-on-11": Case(lambda: good(25), version="11"),
    "good-on-8.5": Case(oldest, version="8.5"),
    "weights-in-float": Case(oldest),
    "constant-nodes": Case(constant_nodes),
    "bytes-cast-at-once": Case(fed_with(TensorProto.UINT8)),
    "qlinear-matmul": Case(integers("QLinearMatMul", "xszwszsz", INT8), "operator-format", "QLinearMatMul"),
    "matmul-integer": Case(integers("MatMulInteger", "xw", INT32), "operator-format", "MatMulInteger"),
    "conv-integer": Case(conv_integer, "operator-format", "sums"),
    "dynamic-ranges": Case(dynamic, "dynamic-quantization", "ranges"),
    "microsoft-gelu": Case(foreign("Gelu"), "foreign-operator", "com.microsoft"),
    "microsoft-fast-gelu": Case(foreign("FastGelu"), "foreign-operator", "com.microsoft"),
    "layer-norm-on-8.5": Case(layer_norm, "lacking-operator", "norm", "8.5"),
    "uint8-at-0": Case(first_pair(zero=np.uint8(0)), "uint8", "uint8"),
    "uint8-by-omission": Case(without_type, "uint8", "uint8"),
    "int16": Case(first_pair(21, zero=np.int16(0)), "sixteen-bit", "int16", "11"),
    "uint16": Case(first_pair(21, zero=np.uint16(0)), "sixteen-bit", "uint16", "11"),
    "int32-bias": Case(quantized_bias, "quantized-bias", "bias"),
    "zero-point-3": Case(first_pair(zero=np.int8(3)), "zero-point", "3"),
    "zero-point-minus-128": Case(first_pair(zero=np.int8(-128)), "zero-point", "-128"),
    "two-inputs-on-8.5": Case(two_inputs, "two-inputs", "dequantizelinear", "8.5"),
    "no-axis": Case(no_axis, "unsaid-axis", "axis"),
    "scale-0": Case(first_pair(scale=np.float32(0.0)), "scale-value", "0"),
    "scale-negative": Case(first_pair(scale=np.float32(-0.5)), "scale-value", "-0.5"),
    "scale-nan": Case(first_pair(scale=np.float32(np.nan)), "scale-value", "nan"),
    "scale-inf": Case(first_pair(scale=np.float32(np.inf)), "scale-value", "inf"),
    "three-scales-for-four": Case(three_scales, "scale-count", "3 scales"),
    "activation-per-channel": Case(channels, "channels-of-activations", "what flows"),
    "computed-scale": Case(computed, "computed-scale", "top"),
    "int8-weights-on-8.5": Case(lambda: good(17), "int8-constant", "int8", "8.5"),
    "axes-input-on-8.5": Case(reduce_mean, "reduce-axes", "mean", "8.5"),
    "opset-21-on-10.3": Case(lambda: good(21), "opset", "21"),
    "opset-18-on-8.5": Case(lambda: of_opset(oldest(), 18), "opset", "18", "8.5"),
    "float64": Case(fed_with(TensorProto.DOUBLE), "element-type", "double"),
    "string": Case(text, "element-type", "string"),
    "bytes-turned": Case(bytes_turned, "uint8-tensor", "turn"),
    "bytes-inside": Case(bytes_inside, "uint8-tensor", "bytes"),
    "open-sides": Case(open_sides, "input-shape", "side"),
    "weights-outside": Case(outside, "external-data", "weights.bin"),
}
