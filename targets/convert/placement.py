"""Which operators of a graph run in int8 on a target, and which tensors are bytes there.

A tensor is in bytes where the operator that makes it runs in int8; all its readers then read it dequantized.
Where a float operator makes it, only its int8 readers do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from targets.convert.forms import Form
from targets.convert.grid import SHAPES, Grid, array, scalar
from targets.convert.pairs import has_bytes
from targets.convert.rules import Rules
from targets.runner.backends import ort

WEIGHTED = ("Conv", "Gemm")
HEAVY = (*ort.HEAVY, "ConvTranspose")  # convolutions and products
SLACK = 1e-5  # of a range: a scale is rounded to float32


@dataclass
class Placement:
    """What is decided of one graph. All values are the graph's own."""

    graph: ir.Graph
    grid: Grid
    rules: Rules
    form: Form
    source: dict[ir.Value, ir.Value] = field(default_factory=dict)  # a tensor → the one whose bytes it has
    ceiling: dict[ir.Value, float] = field(default_factory=dict)  # the highest number that bytes may hold
    dissolved: dict[ir.Node, None] = field(
        default_factory=dict
    )  # products that only change what bytes are read as
    int8: dict[ir.Node, None] = field(default_factory=dict)
    in_bytes: dict[ir.Value, None] = field(default_factory=dict)
    multiplied: dict[ir.Value, None] = field(default_factory=dict)  # by weights

    def decide(self) -> None:
        for answer in self.graph.outputs:  # answers stay float
            if not answer.uses():
                self.grid.pop(answer, None)
        self.find_multiplied()
        if self.rules.kernels is None:
            self.swallow()
            self.in_bytes = dict.fromkeys(self.grid)
            return
        self.carry()
        self.absorb()
        for node in self.graph:
            if self.runs(node):
                self.int8[node] = None
                self.in_bytes.update(dict.fromkeys(one for one in node.outputs if one in self.grid))

    def carry(self) -> None:
        """What moves bytes, or multiplies by a positive constant, hands on the range of what it reads."""
        for node in self.graph:
            first = node.inputs[0] if node.inputs else None
            if first is None or first not in self.grid:
                continue
            known, factor = self.grid[first], self.factor(node)
            if node.op_type in self.rules.carry:
                self.grid.update(dict.fromkeys(node.outputs, known))
            elif factor is not None:
                self.grid[node.outputs[0]] = replace(known, factor=known.factor * factor)
        for node in reversed(self.graph):
            if node.op_type in SHAPES and node.outputs[0] in self.grid and node.inputs[0] is not None:
                self.grid.setdefault(node.inputs[0], self.grid[node.outputs[0]])

    def factor(self, node: ir.Node) -> float | None:
        """The positive constant that a product multiplies by: the same bytes on another scale."""
        found = scalar(node.inputs[1]) if node.op_type == "Mul" else None
        return found if found is not None and found > 0 else None

    def swallow(self) -> None:
        """No pair before an activation that the runtime computes inside the operator before it."""
        for value in list(self.grid):
            readers = value.consumers()
            if value.producer() is not None and readers and all(map(self.is_activation, readers)):
                del self.grid[value]

    def is_activation(self, reader: ir.Node) -> bool:
        """Whether a reader is an activation, or the product x · sigmoid(x) that makes one."""
        if reader.op_type == "Mul" and self.rules.swallowed:
            first, second = reader.inputs
            return is_gate(first, second) or is_gate(second, first)
        return reader.op_type in self.rules.swallowed

    def absorb(self) -> None:
        """Leave out each ReLU and Clip that rounding to bytes does anyway.

        Where bytes reach above a Clip, in the narrow form, the bytes are clipped.
        """
        for node in list(self.graph):
            if node.op_type not in ("Relu", "Clip") or node.inputs[0] is None:
                continue
            made, result = node.inputs[0], node.outputs[0]
            maker = made.producer()
            if (
                result not in self.grid
                or len(made.consumers()) > 1
                or maker is None
                or result.is_graph_output()
            ):
                continue
            low, high = self.form.reach(self.grid[result], result in self.multiplied)
            least, most = clip_bounds(node)
            slack = SLACK * (high - low)
            if maker.op_type not in (self.rules.kernels or ()) or low < least - slack:
                continue
            if high - slack > most:
                self.ceiling[made] = most
            self.grid[made] = self.grid.pop(result)
            if result in self.multiplied:
                self.multiplied[made] = None
            self.in_bytes[made] = None  # so that no reader misses the ReLU
            result.replace_all_uses_with(made)
            self.graph.remove(node, safe=True)

    def find_multiplied(self) -> None:
        """Which tensors' bytes are multiplied by weights, as they are or after operators that move bytes."""
        for node in reversed(self.graph):
            first = node.inputs[0] if node.inputs else None
            moves = node.op_type in self.rules.carry and any(one in self.multiplied for one in node.outputs)
            if first is not None and (node.op_type in WEIGHTED or moves):
                self.multiplied[first] = None

    def runs(self, node: ir.Node) -> bool:
        """Whether a node runs in int8, when it is known of all before it."""
        first, kernels = node.inputs[0] if node.inputs else None, self.rules.kernels or frozenset()
        if any(one.is_graph_output() and one in self.grid for one in node.outputs):
            return False
        if self.factor(node) is not None and first in self.in_bytes:
            self.source[node.outputs[0]] = self.source.get(first, first)
            self.dissolved[node] = None
            return True
        if node.op_type in self.rules.carry:
            return first in self.in_bytes
        if node.op_type in WEIGHTED:
            written = node.op_type == "Gemm" or node.outputs[0] in self.grid
            return first in self.grid and has_bytes(node.inputs[1]) and written
        flowing = [one for one in node.inputs if one is not None and array(one) is None]
        rounded = bool(flowing) and all(one in self.grid for one in (*flowing, *node.outputs))
        return node.op_type in kernels and rounded and any(one in self.in_bytes for one in flowing)


def clip_bounds(node: ir.Node) -> tuple[float, float]:
    if node.op_type == "Relu":
        return 0.0, np.inf
    least, most = (scalar(one) for one in (*node.inputs[1:3], None, None)[:2])
    return (-np.inf if least is None else least), (np.inf if most is None else most)


def is_gate(x: ir.Value | None, gate: ir.Value | None) -> bool:
    """Whether a value is sigmoid(x)."""
    maker = gate.producer() if gate is not None else None
    return maker is not None and maker.op_type in ("Sigmoid", "HardSigmoid") and maker.inputs[0] is x
