"""Which tensors of a float ONNX graph are rounded: those that ``pipeline/quantization/policy.py`` rounds in torch's.

Rounded are the inputs of convolutions and linear layers, what a convolution gives, and what sums, products,
concatenations, pools and activations read; each target's rules keep those that its runtime is fast with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatch

import onnx_ir as ir

from targets.convert.grid import SHAPES, array, scalar
from targets.convert.placement import clip_bounds
from targets.convert.rules import UNARY
from targets.errors import Refusal
from targets.runner.backends.ort import HEAVY

NAMED = 6  # nodes in a message
SUMS = ("Add", "Sub")
FLOWING = ("Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "ReduceMean", *UNARY)
NORMS = ("LayerNormalization", "InstanceNormalization", "GroupNormalization")


def weight_of(node: ir.Node) -> ir.Value | None:
    """The constant that a convolution or a linear layer multiplies by."""
    place = 1 if node.op_type in HEAVY else None
    value = node.inputs[place] if place is not None else None
    return value if array(value) is not None else None


def rounded(graph: ir.Graph, keep_float: Sequence[str] = ()) -> list[ir.Value]:
    """The tensors to round, each once, in the graph's order; ``keep_float``: patterns of nodes that read none.

    Raises Refusal for a pattern that fits no node.
    """
    found: dict[ir.Value, None] = {}
    for pattern in keep_float:
        if not any(fnmatch(str(node.name), pattern) for node in graph):
            names = [str(node.name) for node in graph if weight_of(node) is not None]
            some = ", ".join(names[:NAMED]) + (" …" if len(names) > NAMED else "")
            raise Refusal(f"--keep-float {pattern}: no node has such a name; those with weights are {some}")
    for node in graph:
        if not any(fnmatch(str(node.name), pattern) for pattern in keep_float):
            found.update(dict.fromkeys(rounded_for(node)))
    return [value for value in found if value.uses()]


def rounded_for(node: ir.Node) -> Iterator[ir.Value]:
    """The tensors that are rounded for an operator's sake."""
    flowing = [one for one in node.inputs if one is not None and array(one) is None]
    if weight_of(node) is not None:
        yield from flowing[:1]
        if node.op_type == "Conv":
            given = node.outputs[0].consumers() if is_rectified(node) else [node]
            yield from (one.outputs[0] for one in given if not is_exit(one.outputs[0]))
    elif node.op_type in FLOWING and is_float(node) and not (node.op_type in SUMS and stays_float(node)):
        constants = [one for one in node.inputs if array(one) is not None]
        scaled = node.op_type in ("Add", "Mul") and any(scalar(one) is not None for one in constants)
        yield from () if scaled else flowing
    elif node.op_type == "MaxPool":
        yield from flowing


def is_float(node: ir.Node) -> bool:
    """Whether an operator computes with maps, not with shapes; where the type is not known it is taken to."""
    kind = node.outputs[0].dtype
    return kind is None or kind == ir.DataType.FLOAT


def is_rectified(node: ir.Node) -> bool:
    """Whether an operator is read by a ReLU alone, inside which every runtime computes it, or by a Clip at 0."""
    readers = node.outputs[0].consumers()
    return bool(readers) and all(
        one.op_type in ("Relu", "Clip") and clip_bounds(one)[0] == 0 for one in readers
    )


def is_exit(value: ir.Value) -> bool:
    """Whether a tensor only goes to the graph's outputs, as it is or in another shape: answers stay float."""
    readers = value.consumers()
    return value.is_graph_output() or (
        bool(readers) and all(one.op_type in SHAPES and is_exit(one.outputs[0]) for one in readers)
    )


def stays_float(node: ir.Node) -> bool:
    """Whether a sum is read by normalisations and further sums alone, as a transformer's residual stream is."""
    value = node.outputs[0]
    return is_exit(value) or all(
        one.op_type in NORMS or (one.op_type in SUMS and stays_float(one)) for one in value.consumers()
    )
