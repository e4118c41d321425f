"""Pairs that stand where a runtime does not fuse them: a layer stays in float, and int8 is slower than float."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from targets.diagnose.corpus.fault import Fault, f32, graph

Constants = dict[str, Any]
PAIR = "q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z) v = DequantizeLinear(w, s, n)"
BACK = "p = QuantizeLinear(r, t, o) y = DequantizeLinear(p, t, o)"
UNSIGNED: Constants = {"z": np.uint8(128), "o": np.uint8(128)}
SIGNED: Constants = {"z": np.int8(0), "o": np.int8(0)}
IMAGE = "(float[1,4,6,6] x) => (float[1,4,6,6] y)"


def between(steps: str, head: str = IMAGE, **more: Any) -> onnx.ModelProto:
    """Steps from ``f``, in pairs, and the weight ``v`` to ``r``, which has a pair behind it."""
    weight = np.arange(-8, 8, dtype=np.int8).reshape(4, 4, 1, 1)
    constants = {"s": f32(0.1)[0], "n": np.int8(0), "t": f32(0.1)[0], "w": weight, **UNSIGNED, **more}
    return graph(f"{head} {{ {PAIR} {steps} {BACK} }}", **constants)


def fault(wrong: str, source: str, remedy: str, model: onnx.ModelProto) -> Fault:
    sides = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    zeros = {"x": np.zeros(sides, np.float32)}
    return Fault(wrong, source, remedy, model, zeros, look="kernels", runtimes=("onnxruntime",))


ROWS = "(float[1,4] x) => (float[1,4] y)"
SQUARE = np.arange(-8, 8, dtype=np.int8).reshape(4, 4)
FOUND = "found here: ONNX Runtime 1.31.1, x86-64"

KERNELS = {
    "gemm-float-bias": fault(
        "a Gemm between pairs with a float bias stays a float Gemm",
        "microsoft/onnxruntime#11961",
        "biases are written in int32 on the scale of the products",
        between("r = Gemm(f, v, b)", ROWS, w=SQUARE, b=f32(1, 2, 3, 4)),
    ),
    "conv-symmetric-activations": fault(
        "on x86 a convolution between pairs of int8 with zero point 0 is slower than float",
        "microsoft/onnxruntime#6732",
        "on x86 activations are uint8; on Arm int8 with the least number as zero point behind a ReLU",
        between("c = Conv(f, v) r = Relu(c)", **SIGNED),
    ),
    "conv-not-quantized-behind": fault(
        "a convolution that no pair follows stays float, and its weights are dequantized in each run",
        FOUND,
        "each convolution but the answers' has a Q behind it",
        graph(
            "(float[1,4,6,6] x) => (float[1,4,6,6] y) { " + PAIR + " c = Conv(f, v) y = Tanh(c) }",
            s=f32(0.1)[0],
            z=np.uint8(128),
            n=np.int8(0),
            w=np.arange(-8, 8, dtype=np.int8).reshape(4, 4, 1, 1),
        ),
    ),
    "conv-hardswish": fault(
        "HardSwish between a convolution and its Q keeps the convolution in float",
        FOUND,
        "a Q stands before the activation, and it is written as a sum and a product in int8",
        between("c = Conv(f, v) r = HardSwish(c)"),
    ),
    "conv-hardsigmoid": fault(
        "HardSigmoid between a convolution and its Q keeps the convolution in float",
        FOUND,
        "as conv-hardswish",
        between("c = Conv(f, v) r = HardSigmoid(c)"),
    ),
    "conv-silu": fault(
        "SiLU between a convolution and its Q keeps the convolution in float",
        FOUND,
        "pairs stand around sigmoid and product, which have int8 kernels",
        between("c = Conv(f, v) g = Sigmoid(c) r = Mul(c, g)"),
    ),
    "conv-gelu": fault(
        "GELU between a convolution and its Q keeps the convolution in float",
        FOUND,
        "it is written as x · sigmoid(1.702 x) in int8",
        between("c = Conv(f, v) r = Gelu(c)"),
    ),
    "conv-leaky-relu": fault(
        "LeakyReLU between a convolution and its Q keeps the convolution in float",
        FOUND,
        "a Q stands before it: it has an int8 kernel between its own pairs",
        between("c = Conv(f, v) r = LeakyRelu(c)"),
    ),
    "pad-before-conv": fault(
        "a ReLU and a zero Pad between the pair and its convolution keep the convolution in float",
        FOUND,
        "zero pads go into the padding of the convolution, and a Q stands before the ReLU",
        between(
            "h = Relu(f) d = Pad(h, pads) r = Conv(d, v)",
            "(float[1,4,5,5] x) => (float[1,4,6,6] y)",
            pads=np.array([0, 0, 0, 0, 0, 0, 1, 1]),
        ),
    ),
    "reflecting-pad-before-conv": fault(
        "a Pad that reflects has no int8 kernel, and keeps the convolution behind it in float",
        FOUND,
        "the Pad stays float, and a pair behind it lets the convolution run in int8",
        between(
            'd = Pad <mode = "reflect"> (f, pads) r = Conv(d, v)',
            "(float[1,4,5,5] x) => (float[1,4,6,6] y)",
            pads=np.array([0, 0, 0, 0, 0, 0, 1, 1]),
        ),
    ),
    "relu6-on-a-narrow-grid": fault(
        "a Clip at 6 before a Q that reaches higher keeps the convolution in float",
        FOUND,
        "the Clip is done on the bytes",
        between("c = Conv(f, v) r = Clip(c, low, high)", low=f32(0)[0], high=f32(6)[0], o=np.uint8(0)),
    ),
}
