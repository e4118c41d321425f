"""The file that every target's rules start from: float operators, int8 weights, a pair on every rounded tensor."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass

from targets.convert.grid import SMALLEST, STEPS, array, reads
from targets.convert.pairs import constant, dequantize, dequantize_constant, insert_behind
from targets.quantize.policy import weight_of


def exchange(
    model: onnx.ModelProto, steps: Mapping[str, float], kept: Collection[str] = ()
) -> onnx.ModelProto:
    """A copy of a float model with a pair on each tensor that has a step, by name.

    The nodes named in ``kept`` stay float: their weights are, and they read no tensor rounded.
    """
    made = ir.from_proto(model)
    graph = made.graph
    values = {value.name: value for node in graph for value in node.outputs}
    values |= {value.name: value for value in graph.inputs}
    readers = {name: [use for use in values[name].uses() if use.node.name not in kept] for name in steps}
    for node in list(graph):
        weight = weight_of(node)
        if weight is not None and reads(node).name in steps and node.name not in kept:
            quantize_weight(node, weight, graph)
    zero = constant(graph, "retort/zero", np.int8(0))
    for name, step in steps.items():
        scale = constant(graph, f"{name}/scale", np.float32(step))
        stored = ir.node("QuantizeLinear", [values[name], scale, zero], name=f"{name}/quantize")
        stored.outputs[0].name = f"{name}/quantized"
        insert_behind(graph, values[name], [stored])
        for use in readers[name]:
            dequantize(graph, use.node, use.idx, (stored.outputs[0], scale, zero))
    RemoveUnusedNodesPass()(made)
    NameFixPass()(made)
    proto: onnx.ModelProto = ir.to_proto(made)
    return proto


def quantize_weight(node: ir.Node, weight: ir.Value, graph: ir.Graph) -> None:
    """In int8, a scale for each output; the weight of a linear layer as (outputs, inputs), as every rule reads it."""
    values = array(weight)
    assert values is not None, "it is a constant"
    if node.op_type == "MatMul" and values.ndim != 2:
        return
    turned = node.op_type == "MatMul" or (node.op_type == "Gemm" and not node.attributes.get_int("transB", 0))
    held, scales = in_bytes(np.ascontiguousarray(values.T) if turned else values)
    dequantize_constant(graph, node, 1, held, scales, np.zeros(scales.shape, np.int8), axis=0)
    if node.op_type == "MatMul":
        back = ir.node("Transpose", [reads(node, 1)], {"perm": [1, 0]}, name=f"{node.name}/weight")
        graph.insert_before(node, back)
        node.replace_input_with(1, back.outputs[0])
    elif turned:
        node.attributes["transB"] = ir.AttrInt64("transB", 1)


def in_bytes(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A weight (outputs, …) in int8, and the scale of each output: the largest size of its values over 127."""
    rows = np.abs(weight.reshape(len(weight), -1)).max(1)
    scales = np.maximum(rows / STEPS, SMALLEST).astype(np.float32)
    column = scales.reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.round(weight / column), -STEPS, STEPS).astype(np.int8), scales
