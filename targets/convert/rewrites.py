"""Operators without an int8 kernel, written with those that have one, before a grid is placed.

Each rewrite keeps what the float graph computes, but for GELU: x · sigmoid(1.702 x) stands for it, at most 0.0203
off, which is within a step of the grids that it is seen with. A new tensor gets a range; a product with a
positive constant gets none, because the bytes stay and only what they are read as changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from targets.convert.grid import STEPS, Grid, Range, array, reads, scalar
from targets.convert.pairs import constant, has_bytes

GELU_SLOPE = 1.702
Rewrite = Callable[[ir.Node, ir.Graph, Grid], None]


def rewrite(graph: ir.Graph, grid: Grid, names: Sequence[str]) -> None:
    """Apply the named rewrites of ``REWRITES``, in place, wherever their pattern stands."""
    for name in names:
        for node in list(graph):
            if node.graph is graph:  # an earlier rewrite may have taken it out
                REWRITES[name](node, graph, grid)


def hard_activation(node: ir.Node, graph: ir.Graph, grid: Grid) -> None:
    """On the grid: the clip is what saturates in the sum's bytes."""
    if node.inputs[0] in grid:
        spelled_out(node, graph, grid)


def spelled_out(node: ir.Node, graph: ir.Graph, grid: Grid) -> None:
    """HardSigmoid's clip(α·x + β, 0, 1) as α · clip(x + β/α, 0, 1/α), and HardSwish with it."""
    if node.op_type not in ("HardSigmoid", "HardSwish"):
        return
    swish, x = node.op_type == "HardSwish", reads(node)
    alpha = 1 / 6 if swish else node.attributes.get_float("alpha", 0.2)
    beta = 0.5 if swish else node.attributes.get_float("beta", 0.5)
    made = Nodes(graph, node)
    moved = made("Add", x, made.constant(beta / alpha))
    clipped = made("Clip", moved, made.constant(0.0), made.constant(1 / alpha))
    grid[clipped] = Range(1 / alpha / STEPS, 0.0)
    gate = made("Mul", clipped, made.constant(alpha))
    made.replace(made("Mul", x, gate) if swish else gate, grid)


def gelu(node: ir.Node, graph: ir.Graph, grid: Grid) -> None:
    if node.op_type != "Gelu" or node.inputs[0] not in grid:
        return
    made, x = Nodes(graph, node), reads(node)
    gate = made("Sigmoid", made("Mul", x, made.constant(GELU_SLOPE)))
    grid[gate] = Range(1 / STEPS, 0.0)
    made.replace(made("Mul", x, gate), grid)


def zero_pad(node: ir.Node, graph: ir.Graph, grid: Grid) -> None:
    """Zeros around a map become the padding of the convolutions that read it."""
    pads, fill = array(node.inputs[1]) if node.op_type == "Pad" else None, node.inputs[2:3]
    readers = node.outputs[0].consumers()
    if (
        pads is None
        or node.inputs[3:4]
        or node.attributes.get_string("mode", "constant") != "constant"
        or (fill and fill[0] is not None and scalar(fill[0]) != 0)
        or len(pads) != 8
        or np.any(pads.reshape(2, 4)[:, :2])
        or not all(one.op_type == "Conv" for one in readers)
        or any(one.attributes.get_string("auto_pad", "NOTSET") != "NOTSET" for one in readers)
        or node.outputs[0].is_graph_output()
    ):
        return
    more = pads.reshape(2, 4)[:, 2:].reshape(-1)
    for one in readers:
        own = one.attributes.get_ints("pads", [0, 0, 0, 0])
        one.attributes["pads"] = ir.AttrInt64s(
            "pads", [int(a) + int(b) for a, b in zip(own, more, strict=True)]
        )
    source = reads(node)
    if node.outputs[0] in grid:
        grid.setdefault(source, grid[node.outputs[0]])
        del grid[node.outputs[0]]
    node.outputs[0].replace_all_uses_with(source)
    graph.remove(node, safe=True)


def mean_of_map(node: ir.Node, graph: ir.Graph, grid: Grid) -> None:
    """A mean over height and width is a global average pool, which has a kernel."""
    axes = array(node.inputs[1]) if node.op_type == "ReduceMean" and len(node.inputs) > 1 else None
    shape = reads(node).shape if node.inputs else None
    if axes is None or shape is None or len(shape) != 4 or sorted(int(a) % 4 for a in axes) != [2, 3]:
        return
    made = Nodes(graph, node)
    pooled = made("GlobalAveragePool", reads(node))
    kept = node.attributes.get_int("keepdims", 1)
    made.replace(pooled if kept else made("Flatten", pooled), grid)


def linear(node: ir.Node, graph: ir.Graph, grid: Grid) -> None:
    """A linear layer on (N, …, K) as a matrix product on (·, K), whose int8 kernel adds the bias in 32 bits."""
    weight = transposed(reads(node, 1)) if node.op_type == "MatMul" else None
    readers = node.outputs[0].consumers()
    if weight is None or reads(node) not in grid or [one.op_type for one in readers] != ["Add"]:
        return
    (add,) = readers
    x, bias = reads(node), reads(add, 1 if add.inputs[0] is node.outputs[0] else 0)
    values, inner = array(bias), list(x.shape or ())[1:-1]
    if values is None or values.ndim != 1 or x.shape is None or not all(isinstance(n, int) for n in inner):
        return
    made, width = Nodes(graph, add), len(values)
    rows = made("Reshape", x, made.constant([-1, made.width(weight)], np.int64)) if inner else x
    product = made("Gemm", rows, weight, bias, transB=1)
    made.replace(
        made("Reshape", product, made.constant([-1, *inner, width], np.int64)) if inner else product, grid
    )
    graph.remove(node, safe=True)


def transposed(value: ir.Value) -> ir.Value | None:
    """The (outputs, inputs) weight in int8 of which this is the transpose."""
    maker = value.producer()
    source = reads(maker) if maker is not None and maker.op_type == "Transpose" else None
    return source if has_bytes(source) else None


class Nodes:
    """New nodes in place of one; a call makes a node and gives its output."""

    def __init__(self, graph: ir.Graph, old: ir.Node) -> None:
        self.graph, self.old, self.made = graph, old, list[ir.Node]()

    def __call__(self, kind: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        name = f"{self.old.name}/{kind}_{len(self.made)}"
        node = ir.node(kind, inputs, attributes or None, name=name)
        node.outputs[0].name = name
        self.made.append(node)
        return node.outputs[0]

    def constant(self, value: Any, kind: Any = np.float32) -> ir.Value:
        return constant(
            self.graph, f"{self.old.name}/{len(self.graph.initializers)}", np.asarray(value, kind)
        )

    def width(self, weight: ir.Value) -> int:
        maker = weight.producer()
        values = array(maker.inputs[0]) if maker is not None else None
        assert values is not None, "its bytes are a constant"
        return int(values.shape[1])

    def replace(self, by: ir.Value, grid: Grid) -> None:
        """Put the nodes where the old one stands; the last value takes over its name and its range."""
        old = self.old.outputs[0]
        if old in grid:
            grid[by] = grid.pop(old)
        ir.convenience.replace_nodes_and_values(self.graph, self.old, [self.old], self.made, [old], [by])


REWRITES: dict[str, Rewrite] = {
    "hard_activation": hard_activation,
    "spelled_out": spelled_out,
    "gelu": gelu,
    "zero_pad": zero_pad,
    "mean_of_map": mean_of_map,
    "linear": linear,
}
