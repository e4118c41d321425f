"""The parts of a Q/DQ pair in a graph: constants, nodes behind a tensor, a DQ in front of a reader."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from targets.convert.grid import array


def constant(graph: ir.Graph, name: str, values: Any) -> ir.Value:
    """A new initializer; its name gets a number where another has it."""
    if name in graph.initializers:
        name = next(f"{name}_{n}" for n in itertools.count(1) if f"{name}_{n}" not in graph.initializers)
    tensor, shape = ir.tensor(values, name=name), ir.Shape(np.shape(values))
    value = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def insert_behind(graph: ir.Graph, value: ir.Value, nodes: Sequence[ir.Node]) -> None:
    """Put nodes behind what makes a tensor; in front of all others where it is an input of the graph."""
    maker = value.producer()
    if maker is None:
        graph.insert_before(graph[0], nodes)
    else:
        graph.insert_after(maker, nodes)


def dequantize(
    graph: ir.Graph, reader: ir.Node, position: int, parts: Sequence[ir.Value], axis: int | None = None
) -> None:
    """Let a node read bytes, a scale and a zero point through a DQ of its own."""
    name = f"{reader.name}/input_{position}"
    back = ir.node("DequantizeLinear", parts, {} if axis is None else {"axis": axis}, name=name)
    back.outputs[0].name = name
    graph.insert_before(reader, back)
    reader.replace_input_with(position, back.outputs[0])


def dequantize_constant(
    graph: ir.Graph,
    reader: ir.Node,
    position: int,
    held: Any,
    scale: Any,
    zero: Any,
    axis: int | None = None,
) -> None:
    """Let a node read a constant in bytes."""
    name = f"{reader.name}/constant_{position}"
    named = (("bytes", held), ("scale", scale), ("zero", zero))
    parts = [constant(graph, f"{name}/{part}", values) for part, values in named]
    dequantize(graph, reader, position, parts, axis)


def has_bytes(value: ir.Value | None) -> bool:
    """Whether a value is a constant in bytes, dequantized."""
    maker = value.producer() if value is not None else None
    return maker is not None and maker.op_type == "DequantizeLinear" and array(maker.inputs[0]) is not None
