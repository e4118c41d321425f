"""From the trained grid (symmetric s8) to the file that a target runs fast.

ONNX Runtime on x86 has fused int8 kernels for unsigned activations only: u8. A tensor that cannot be negative gets
zero point 0 and scale · 127 / 255 (the same range in twice as many steps); any other becomes u8 with zero point 128
and its own scale, which is the same grid to the bit.

Without VNNI the products of u8 and s8 are added in pairs in 16 bits and saturate. There the narrow form keeps to
values up to 128 (2 · 128 · 127 fits): what cannot be negative keeps its old scale, and any other tensor has twice its
scale around zero point 64. Left in s8 the runtime would make u8 of it by itself, up to 255.

On Arm there are kernels for s8, but a ReLU before a grid disappears into it only where the zero point is the type's
lowest number; else it holds its convolution in float. So what cannot be negative gets zero point -128 there: s8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from targets.errors import Refusal

WIDEN = np.float32(127) / np.float32(255)
# For what cannot be negative, and for all else: the factor of its scale, and its zero point; None: as it was trained.
Grid = tuple[np.float32, Any] | None
FORMS: dict[str, tuple[Grid, Grid]] = {
    "none": (None, None),
    "u8": ((WIDEN, np.uint8(0)), (np.float32(1), np.uint8(128))),
    "u8-narrow": ((np.float32(1), np.uint8(0)), (np.float32(2), np.uint8(64))),
    "s8": ((WIDEN, np.int8(-128)), None),
}
# Operators that cannot make a negative out of what is not.
KEEP_SIGN = {
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "ReduceMean",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Transpose",
    "Concat",
    "Identity",
    "QuantizeLinear",
    "DequantizeLinear",
    "Relu",
    "Add",
    "Mul",
    "Dropout",
}
POSITIVE = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs"}


def choose(rewrite: str, features: Sequence[str]) -> str:
    """``auto`` as the processor's instructions want it: u8, or its narrow form where products saturate; s8 on Arm."""
    if rewrite != "auto":
        return rewrite
    if "asimd" in features:
        return "s8"
    return "u8" if {"avx512_vnni", "avx_vnni", "amx_int8"} & set(features) else "u8-narrow"


def rewritten(model: onnx.ModelProto, form: str) -> onnx.ModelProto:
    """A copy of the model in a form of ``FORMS``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if form != "none":
        regrid(copy.graph, *FORMS[form])
    return copy


def regrid(graph: onnx.GraphProto, for_positive: Grid, for_others: Grid) -> None:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    positive = never_negative(graph, constants)
    for quantize in [node for node in graph.node if node.op_type == "QuantizeLinear"]:
        if quantize.input[0] in constants:
            continue
        scale = numpy_helper.to_array(constants[quantize.input[1]])
        zero = numpy_helper.to_array(constants[quantize.input[2]])
        if zero.dtype != np.int8 or np.any(zero):
            raise Refusal(f"rewrite: {quantize.name}: expected zero point 0 in int8, found {zero.dtype}")
        grid = for_positive if quantize.input[0] in positive else for_others
        if grid is None:
            continue
        factor, lowest = grid
        names = [f"{quantize.output[0]}.own_scale", f"{quantize.output[0]}.own_zero"]
        graph.initializer.append(numpy_helper.from_array(np.asarray(scale * factor, scale.dtype), names[0]))
        graph.initializer.append(numpy_helper.from_array(np.full_like(zero, lowest, lowest.dtype), names[1]))
        users = [
            n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] == quantize.output[0]
        ]
        for node in (quantize, *users):
            node.input[1], node.input[2] = names
    # Element types of intermediate tensors have changed; whoever loads the file infers them again.
    del graph.value_info[:]


def never_negative(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto]) -> set[str]:
    """Names of the tensors that cannot hold a negative value, whatever the input."""
    positive: set[str] = set()
    for node in graph.node:
        inputs = [name for name in node.input if name and name not in constants]
        fixed = [constants[name] for name in node.input if name in constants]
        if node.op_type in POSITIVE:
            keeps = True
        elif node.op_type == "Clip":
            low = constants.get(node.input[1]) if len(node.input) > 1 else None
            keeps = low is not None and bool(np.all(numpy_helper.to_array(low) >= 0))
        elif node.op_type in KEEP_SIGN:
            keeps = (
                bool(inputs) and all(name in positive for name in inputs) and not any(map(negative, fixed))
            )
        else:
            keeps = False
        if keeps:
            positive.update(node.output)
    return positive


def negative(constant: onnx.TensorProto) -> bool:
    """Whether a constant that joins what flows has a negative value; shapes and axes are integers and do not."""
    values = numpy_helper.to_array(constant)
    return bool(np.issubdtype(values.dtype, np.floating) and np.any(values < 0))
