"""From the trained grid (symmetric s8) to the file that a target runs fast.

ONNX Runtime on x86 has fused int8 kernels for unsigned activations only. A tensor that cannot be negative
becomes u8 with zero point 0 and scale · 127 / 255 (the same range in twice as many steps); any other becomes
u8 with zero point 128 and its own scale, which is the same grid to the bit.

Without VNNI the products of u8 and s8 are added in pairs in 16 bits and saturate. There the narrow form keeps
the old scale of what cannot be negative (values up to 127, and 2 · 127² fits), and leaves the rest as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from targets.refusal import Refusal

U8_ZERO = 128
WIDEN = np.float32(127) / np.float32(255)
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
    """``auto`` as the processor's instructions want it: u8, or its narrow form where products saturate.

    On Arm there are kernels for the trained grid as it is, and nothing saturates.
    """
    if rewrite != "auto":
        return rewrite
    if "asimd" in features:
        return "none"
    return "u8" if {"avx512_vnni", "avx_vnni", "amx_int8"} & set(features) else "u8-narrow"


def rewritten(model: onnx.ModelProto, form: str) -> onnx.ModelProto:
    """A copy of the model in the wanted form: ``none``, ``u8`` or ``u8-narrow``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if form != "none":
        to_u8(copy.graph, narrow=form == "u8-narrow")
    return copy


def to_u8(graph: onnx.GraphProto, narrow: bool) -> None:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    positive = never_negative(graph, constants)
    for quantize in [node for node in graph.node if node.op_type == "QuantizeLinear"]:
        if quantize.input[0] in constants:
            continue
        scale = numpy_helper.to_array(constants[quantize.input[1]])
        zero = numpy_helper.to_array(constants[quantize.input[2]])
        if zero.dtype != np.int8 or np.any(zero):
            raise Refusal(f"rewrite: {quantize.name}: expected zero point 0 in int8, found {zero.dtype}")
        is_positive = quantize.input[0] in positive
        if narrow and not is_positive:
            continue
        new_scale = scale * WIDEN if is_positive and not narrow else scale
        new_zero = np.zeros_like(zero, np.uint8) if is_positive else np.full_like(zero, U8_ZERO, np.uint8)
        names = [f"{quantize.output[0]}.u8_scale", f"{quantize.output[0]}.u8_zero"]
        graph.initializer.append(numpy_helper.from_array(np.asarray(new_scale, scale.dtype), names[0]))
        graph.initializer.append(numpy_helper.from_array(np.asarray(new_zero), names[1]))
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
