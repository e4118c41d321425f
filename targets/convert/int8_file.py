"""A target's int8 file: a Q behind each tensor that is bytes there, and a DQ for each reader of the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass

from targets.convert.forms import FORMS, Form
from targets.convert.grid import array, lift, reads
from targets.convert.pairs import constant, dequantize, dequantize_constant, insert_behind
from targets.convert.placement import WEIGHTED, Placement
from targets.convert.reasons import Operator, left_float, listed, operators
from targets.convert.rewrites import rewrite
from targets.convert.rules import Rules

BIAS_LIMIT = 2**30  # of a bias in 32 bits: leaves room for the sum that it is added to


@dataclass(frozen=True)
class Placed:
    """A target's int8 file: its model, what stays float with the reason, and what was decided of every operator."""

    model: onnx.ModelProto
    left_float: dict[str, str]
    operators: list[Operator]


def placed(model: onnx.ModelProto, rules: Rules, form: str) -> Placed:
    """A copy of a model, which has a pair on every rounded tensor, as a target wants it."""
    made = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    grid = lift(made.graph)
    if not grid:
        return Placed(model, {}, [])
    before = listed(made.graph)
    rewrite(made.graph, grid, rules.rewrites)
    placement = Placement(made.graph, grid, rules, FORMS[form])
    placement.decide()
    left, found = left_float(placement), operators(before, placement)
    write_pairs(placement)
    rewrite(made.graph, {}, rules.spellings)
    RemoveUnusedNodesPass()(made)
    NameFixPass()(made)
    proto: onnx.ModelProto = ir.to_proto(made)
    del proto.graph.value_info[:]  # element types have changed; whoever loads the file infers them
    return Placed(proto, left, found)


@dataclass(frozen=True)
class Kept:
    """A tensor's bytes and their zero point."""

    value: ir.Value
    scale: np.float32
    zero: ir.Value


def write_pairs(placement: Placement) -> None:
    """Write what a placement decided, in place."""
    readers = {value: found for value in placement.grid if (found := readers_of_bytes(value, placement))}
    kept: dict[ir.Value, Kept] = {}
    for value, uses in readers.items():
        root = placement.source.get(value, value)
        if root not in kept:
            kept[root] = quantize(root, placement)
        for reader, position in uses:
            factor = placement.grid[value].factor / placement.grid[root].factor
            scale = np.float32(float(kept[root].scale) * factor)
            parts = kept[root].value, constant(placement.graph, f"{value.name}/scale", scale), kept[root].zero
            dequantize(placement.graph, reader, position, parts)
    for node in placement.int8:
        if node.op_type in ("Add", "Mul") and node not in placement.dissolved:
            quantize_constants(node, placement)
        if placement.rules.bias and node.op_type in WEIGHTED:
            quantize_bias(node, placement.graph)


def readers_of_bytes(value: ir.Value, placement: Placement) -> list[tuple[ir.Node, int]]:
    """The readers that read a tensor dequantized: all where it is made in int8, else the operators in int8."""
    return [
        (use.node, use.idx)
        for use in value.uses()
        if use.node not in placement.dissolved
        and (value in placement.in_bytes or value in placement.source or use.node in placement.int8)
    ]


def quantize(value: ir.Value, placement: Placement) -> Kept:
    """A Q behind a tensor, and a Clip of the bytes where they reach above what they may hold."""
    graph, form = placement.graph, placement.form
    scale, zero = form.bytes_of(placement.grid[value], value in placement.multiplied)
    scale_value = constant(graph, f"{value.name}/scale", scale)
    zero_value = constant(graph, f"{value.name}/zero", zero)
    nodes = [ir.node("QuantizeLinear", [value, scale_value, zero_value], name=f"{value.name}/quantize")]
    if value in placement.ceiling:
        most = form.kind(round(placement.ceiling[value] / float(scale)) + int(zero))
        least, top = zero_value, constant(graph, f"{value.name}/ceiling", most)
        nodes.append(ir.node("Clip", [nodes[0].outputs[0], least, top], name=f"{value.name}/clip"))
    for node in nodes:
        node.outputs[0].name = f"{node.name}d"
    insert_behind(graph, value, nodes)
    return Kept(nodes[-1].outputs[0], scale, zero_value)


def quantize_constants(node: ir.Node, placement: Placement) -> None:
    """A constant that is added or multiplied, in bytes that hold zero and its ends exactly."""
    for position, value in enumerate(node.inputs):
        values = array(value)
        if values is not None:
            scale, zero = span(values.astype(np.float32), placement.form)
            ends = np.iinfo(placement.form.kind)
            held = np.clip(np.round(values / scale) + int(zero), ends.min, ends.max).astype(zero.dtype)
            dequantize_constant(placement.graph, node, position, held, scale, zero)


def span(values: NDArray[np.float32], form: Form) -> tuple[np.float32, Any]:
    low, high, ends = min(0.0, float(values.min())), max(0.0, float(values.max())), np.iinfo(form.kind)
    if not form.asymmetric:
        return np.float32(max(-low, high, 1e-9) / ends.max), form.kind(0)
    scale = np.float32(max(high - low, 1e-9) / 255)
    return scale, form.kind(ends.min + round(-low / float(scale)))


def quantize_bias(node: ir.Node, graph: ir.Graph) -> None:
    """A bias in 32 bits, on the scale of the products that it is added to.

    Where that is too fine for it, as beside weights of zero, the weights of its output get a coarser scale.
    """
    bias = array(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is None:
        return
    flow, weight = reads(node).producer(), reads(node, 1).producer()
    assert flow is not None and weight is not None, "both are dequantized"
    step, scales = array(flow.inputs[1]), array(weight.inputs[1])
    assert step is not None and scales is not None, "scales are constants"
    products = (scales.astype(np.float64) * float(step)).reshape(-1)
    coarser = np.maximum(1.0, np.abs(bias) / (products * BIAS_LIMIT))
    if np.any(coarser > 1):
        held, zero = array(weight.inputs[0]), array(weight.inputs[2])
        assert held is not None and zero is not None, "its bytes are a constant"
        column = coarser.reshape(-1, *[1] * (held.ndim - 1))
        fewer = np.round(held / column).astype(held.dtype)
        axis = weight.attributes.get_int("axis", 1)
        dequantize_constant(graph, node, 1, fewer, (scales * coarser).astype(np.float32), zero, axis)
        products = products * coarser
    whole = np.round(bias / products).astype(np.int32)
    zeros = np.zeros(products.shape, np.int32)
    dequantize_constant(graph, node, 2, whole, products.astype(np.float32), zeros, 0)
