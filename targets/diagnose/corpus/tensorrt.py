"""What TensorRT's parser refuses or reads otherwise. It does not run here: the linter must refuse each graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from targets.diagnose.corpus.fault import Fault, f32, graph

PAIR = "q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z)"
S, Z = f32(0.1)[0], np.int8(0)
READ = "found here: read in onnx-tensorrt's importers"
LINTED = "the linter refuses it before anything is sent; TensorRT's own file is written without it"
IMAGE = "(float[n,4,6,6] x) => (float[n,4,6,6] y)"
WEIGHT = np.ones((4, 4, 1, 1), np.int8)


def pair(scale: Any = S, zero: Any = Z, opset: int = 18) -> onnx.ModelProto:
    return graph(f"{IMAGE} {{ {PAIR} y = Relu(f) }}", opset, s=scale, z=zero)


def rule(
    name: str, wrong: str, source: str, model: onnx.ModelProto, version: str = "10.3", remedy: str = LINTED
) -> Fault:
    return Fault(wrong, source, remedy, model, look="tensorrt", rule=name, version=version)


def of_type(kind: int, shape: Sequence[int | str]) -> onnx.ModelProto:
    """An input of another type or shape, cast to float at once."""
    nodes = [
        helper.make_node("Abs", ["x"], ["a"], "abs"),
        helper.make_node("Cast", ["a"], ["y"], "cast", to=1),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def bias() -> onnx.ModelProto:
    return graph(
        f"""{IMAGE} {{ {PAIR}
        v = DequantizeLinear <axis = 0> (w, r, n) c = DequantizeLinear <axis = 0> (b, r, i) y = Conv(f, v, c) }}""",
        18,
        s=S,
        z=Z,
        w=WEIGHT,
        r=f32(1, 1, 1, 1),
        n=np.zeros(4, np.int8),
        b=np.ones(4, np.int32),
        i=np.zeros(4, np.int32),
    )


TENSORRT = {
    "trt-zero-point": rule(
        "zero-point",
        "a pair whose zero point is not 0 is refused: only symmetric grids are taken",
        "NVIDIA/TensorRT#2774",
        pair(zero=np.int8(3)),
        remedy="TensorRT's file keeps the symmetric grid, zero points 0",
    ),
    "trt-qlinear-operators": rule(
        "operator-format",
        "QLinearConv and the like have no importer",
        "onnx/onnx-tensorrt#560",
        graph(
            "(int8[1,4] x) => (int8[1,4] y) { y = QLinearMatMul(x, s, z, w, s, z, s, z) }",
            18,
            s=S,
            z=Z,
            w=np.ones((4, 4), np.int8),
        ),
        remedy="files have pairs, never operators on integers",
    ),
    "trt-convinteger": rule(
        "operator-format",
        "ConvInteger has no importer",
        "NVIDIA/TensorRT#1009",
        graph("(int8[1,4,6,6] x) => (int32[1,4,6,6] y) { y = ConvInteger(x, w) }", 18, w=WEIGHT),
        remedy="files have pairs, never operators on integers",
    ),
    "trt-int32-bias": rule(
        "quantized-bias",
        "a bias in int32 is refused: only activation types are allowed",
        "microsoft/onnxruntime#14229",
        bias(),
        remedy="TensorRT's file has float biases",
    ),
    "trt-axes-as-input": rule(
        "reduce-axes",
        "a reduction's axes that are an input are not read: all axes are reduced",
        "NVIDIA/TensorRT#3467",
        graph(
            "(float[n,4,6,6] x) => (float[n,4,1,1] y) { y = ReduceMean(x, axes) }", 18, axes=np.array([2, 3])
        ),
        "8.5",
    ),
    "trt-layer-normalization": rule(
        "lacking-operator",
        "LayerNormalization has no importer",
        "NVIDIA/TensorRT#3346",
        graph("(float[n,4] x) => (float[n,4] y) { y = LayerNormalization(x, k) }", 17, k=f32(1, 1, 1, 1)),
        "8.5",
    ),
    "trt-scale-not-a-number": rule(
        "scale-value",
        "a scale that is no number, as quantizers write it at times, is refused",
        "NVIDIA/TensorRT#3112",
        pair(scale=np.float32(np.nan)),
        remedy="a scale is never below the least float step, and calibration refuses what is not a number",
    ),
    "trt-scale-count": rule(
        "scale-count",
        "as many scales as another axis has channels are refused",
        "NVIDIA/TensorRT#994",
        graph(
            f"{IMAGE} {{ v = DequantizeLinear <axis = 1> (w, r, n) y = Conv(x, v) }}",
            18,
            w=np.ones((4, 4, 1, 1), np.int8),
            r=f32(1, 1, 1),
            n=np.zeros(3, np.int8),
        ),
    ),
    "trt-int8-constants": rule(
        "int8-constant",
        "weights in int8 are refused by older parsers, which want them quantized in the graph",
        READ,
        graph(
            f"{IMAGE} {{ v = DequantizeLinear <axis = 0> (w, r, n) y = Conv(x, v) }}",
            17,
            w=WEIGHT,
            r=f32(1, 1, 1, 1),
            n=np.zeros(4, np.int8),
        ),
        "8.5",
    ),
    "trt-uint8-grid": rule(
        "uint8", "uint8 in a pair is taken for int8, or refused", READ, pair(zero=np.uint8(0))
    ),
    "trt-sixteen-bits": rule(
        "sixteen-bit", "pairs of 16 bits are refused", READ, pair(zero=np.int16(0), opset=21), "11"
    ),
    "trt-dynamic-ranges": rule(
        "dynamic-quantization",
        "scales that each input sets anew are refused",
        READ,
        graph(f"{IMAGE} {{ q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z) }}", 18),
    ),
    "trt-computed-scale": rule(
        "computed-scale",
        "a scale that the graph computes kills the parser",
        "found here: tensorrt-rtx 1.7.1 ends with signal 11",
        graph(
            f"""{IMAGE} {{
            s = ReduceMax <keepdims = 0> (x) q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }}""",
            18,
            z=Z,
        ),
    ),
    "trt-activation-per-channel": rule(
        "channels-of-activations",
        "what flows may not have a scale for each channel",
        READ,
        graph(
            f"{IMAGE} {{ q = QuantizeLinear <axis = 1> (x, r, n) y = DequantizeLinear <axis = 1> (q, r, n) }}",
            18,
            r=f32(1, 1, 1, 1),
            n=np.zeros(4, np.int8),
        ),
    ),
    "trt-unsaid-axis": rule(
        "unsaid-axis",
        "without an axis ONNX means 1, and importers up to 10.6 mean 0",
        READ,
        graph(
            f"{IMAGE} {{ v = DequantizeLinear(w, r, n) y = Conv(x, v) }}",
            18,
            w=WEIGHT,
            r=f32(1, 1, 1, 1),
            n=np.zeros(4, np.int8),
        ),
    ),
    "trt-opset": rule("opset", "opset 21 is not known to 10.3", READ, pair(opset=21)),
    "trt-float64": rule(
        "element-type", "float64 is computed in float32", READ, of_type(TensorProto.DOUBLE, ["n", 4])
    ),
    "trt-open-sides": rule(
        "input-shape", "images of any size have no profile", READ, of_type(TensorProto.FLOAT, ["n", "side"])
    ),
    "trt-foreign-operator": rule(
        "foreign-operator",
        "operators of com.microsoft have no importer",
        READ,
        graph("(float[n,4] x) => (float[n,4] y) { y = com.microsoft.FastGelu(x) }", 18),
    ),
}
