"""The int8 grid of an exported file, apart from its graph.

An exported int8 file has a QuantizeLinear/DequantizeLinear pair on every tensor that was rounded in training: 127
steps either side of zero point 0. No runtime is fast with pairs at all of these places. ``lift`` takes them out,
which leaves a float graph with int8 weights and a table from tensors to ranges; ``placement`` writes a target's
file from the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from targets.errors import Refusal

STEPS = 127  # -127 … 127: -128 is left out, because two of them overflow 16 bits on some Arm cores
SMALLEST = float(np.finfo(np.float32).eps)  # of a scale: a tensor of zeros has one too


@dataclass(frozen=True)
class Range:
    """What a tensor can hold, of which its bytes are made.

    ``step`` is that of the trained grid, whose highest number is 127 steps; no value is below ``low``.
    ``factor``: the tensor is another one times this, and has its bytes, which are read on another scale.
    """

    step: float
    low: float
    factor: float = 1.0


Grid = dict[ir.Value, Range]


def lift(graph: ir.Graph) -> Grid:
    """Take the pairs on what flows out of a graph, in place, and return the range of each of these tensors.

    Raises Refusal for a pair that is not on a symmetric grid of int8.
    """
    steps: dict[ir.Value, float] = {}
    for node in list(graph):
        source = node.inputs[0] if node.op_type == "QuantizeLinear" else None
        if source is None or array(source) is not None:
            continue
        step, zero = array(node.inputs[1]), array(node.inputs[2])
        if step is None or step.size != 1 or zero is None or zero.dtype != np.int8 or np.any(zero):
            raise Refusal(f"{node.name}: expected one scale and zero point 0 in int8; export the model again")
        for reader in node.outputs[0].consumers():
            reader.outputs[0].replace_all_uses_with(source, replace_graph_outputs=True)
            graph.remove(reader, safe=True)
        graph.remove(node, safe=True)
        steps[source] = float(step.reshape(()))
    bounds = lower_bounds(graph)
    # Zero is always on the grid, because padding is made of it.
    lows = {value: min(0.0, bounds.get(value, -np.inf)) for value in steps}
    return {value: Range(step, max(-STEPS * step, lows[value])) for value, step in steps.items()}


def reads(node: ir.Node, position: int = 0) -> ir.Value:
    """What a node reads at a position that its operator requires."""
    value = node.inputs[position]
    assert value is not None, f"{node.name} is a valid {node.op_type}"
    return value


def array(value: ir.Value | None) -> NDArray[Any] | None:
    """A constant's values: an initializer's, or a Constant node's; None for what is computed."""
    found = None if value is None else ir.convenience.get_const_tensor(value)
    return None if found is None else found.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """The one number that a constant holds, whatever its rank."""
    found = array(value)
    return float(found.reshape(())) if found is not None and found.size == 1 else None


SHAPES = (
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Identity",
)  # all values, in another shape
PARTS = ("Slice", "Split", "Gather", "Expand", "MaxPool", "GlobalMaxPool", "Dropout")
MEANS = ("AveragePool", "GlobalAveragePool", "ReduceMean")
UNIT = ("Sigmoid", "HardSigmoid", "Softmax")  # from 0 to 1
# The lowest value of each: of x·clip(x/6 + 1/2, 0, 1) at -1.5, of x·Φ(x) at -0.7518; of x·sigmoid(x) at -1.2785.
HARD_SWISH, GELU, SWISH = -0.375, -0.17, -0.2785


def lower_bounds(graph: ir.Graph) -> dict[ir.Value, float]:
    """The number that no value of a tensor is below, whatever the images; absent where there is none."""
    bounds: dict[ir.Value, float] = {}

    def of(value: ir.Value | None) -> float:
        constant = array(value)
        if constant is not None and constant.size:
            return float(constant.min())
        return bounds.get(value, -np.inf) if value is not None else -np.inf

    for node in graph:
        rule = RULES.get(node.op_type)
        found = rule(node, of) if rule is not None else -np.inf
        if found > -np.inf:
            bounds.update(dict.fromkeys(node.outputs, found))
    return bounds


Of = Callable[[ir.Value | None], float]


def of_product(node: ir.Node, of: Of) -> float:
    left, right = node.inputs
    for x, gate in ((left, right), (right, left)):
        maker = gate.producer() if gate is not None else None
        if maker is not None and maker.op_type in UNIT:
            return (
                max(of(x), SWISH) if maker.op_type == "Sigmoid" and maker.inputs[0] is x else min(of(x), 0.0)
            )
    return 0.0 if min(of(left), of(right)) >= 0 else -np.inf


def of_resize(node: ir.Node, of: Of) -> float:
    return -np.inf if node.attributes.get_string("mode", "nearest") == "cubic" else of(node.inputs[0])


def of_pad(node: ir.Node, of: Of) -> float:
    if node.attributes.get_string("mode", "constant") != "constant":
        return of(node.inputs[0])
    filled = node.inputs[2] if len(node.inputs) > 2 else None
    return min(of(node.inputs[0]), 0.0 if filled is None else of(filled))


def of_first(node: ir.Node, of: Of) -> float:
    return of(node.inputs[0])


def always(bound: float) -> Callable[[ir.Node, Of], float]:
    return lambda node, of: bound


RULES: dict[str, Callable[[ir.Node, Of], float]] = {
    **dict.fromkeys((*SHAPES, *PARTS, *MEANS), of_first),
    **dict.fromkeys((*UNIT, "Exp", "Abs", "Relu"), always(0.0)),
    "HardSwish": always(HARD_SWISH),
    "Gelu": always(GELU),
    "Clip": lambda node, of: max(of(node.inputs[0]), of(node.inputs[1]) if len(node.inputs) > 1 else -np.inf),
    "Add": lambda node, of: of(node.inputs[0]) + of(node.inputs[1]),
    "Concat": lambda node, of: min(map(of, node.inputs)),
    "Mul": of_product,
    "Pad": of_pad,
    "Resize": of_resize,
}
