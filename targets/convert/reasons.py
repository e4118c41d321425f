"""Of each operator of a graph, whether it runs in int8 on a target, and why not: ``placement``'s decisions in words.

An operator that int8 leaves out, as a ReLU whose clip is the bytes' own, is gone from the graph afterwards; so the
operators are listed from the graph as it was before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from targets.convert.grid import array
from targets.convert.pairs import has_bytes
from targets.convert.placement import HEAVY, WEIGHTED, Placement

Runs = Literal["int8", "float", "as the runtime decides", "shapes"]
MAPS = (
    None,
    ir.DataType.FLOAT,
    ir.DataType.FLOAT16,
)  # types of what flows; where it is not known it is taken to


@dataclass(frozen=True)
class Operator:
    """One node: where it runs, and why. ``shapes``: it computes with numbers that are no map, as a reshape's."""

    name: str
    kind: str
    runs: Runs
    why: str = ""

    @property
    def heavy(self) -> bool:
        """A convolution or a product, also in the spellings on integers: QLinearConv, MatMulInteger."""
        return any(heavy in self.kind for heavy in HEAVY)


def flowing(graph: ir.Graph) -> Iterator[ir.Node]:
    """The nodes that compute with what flows; what is made of constants alone, as a weight, is left out."""
    constant = set[ir.Value]()
    for node in graph:
        if all(one is None or one in constant or array(one) is not None for one in node.inputs):
            constant.update(node.outputs)
        else:
            yield node


def listed(graph: ir.Graph) -> list[tuple[str, str, bool]]:
    """Each node's name and kind, and whether it computes with maps."""
    return [(str(node.name), node.op_type, node.outputs[0].dtype in MAPS) for node in flowing(graph)]


def operators(before: Sequence[tuple[str, str, bool]], placement: Placement) -> list[Operator]:
    """What was decided of the nodes that were listed before the rewrites."""
    there = {str(node.name): node for node in flowing(placement.graph)}
    parts: dict[str, list[ir.Node]] = {}
    for name, node in there.items():
        parts.setdefault(name.rpartition("/")[0], []).append(node)
    found = []
    for name, kind, maps in before:
        if not maps:
            found.append(Operator(name, kind, "shapes"))
        elif name in there:
            found.append(one_of(there[name], placement))
        elif made := [node for node in parts.get(name, []) if node.op_type != "Reshape"]:
            floats = [node for node in made if node not in placement.int8]
            spelled = f"written as {', '.join(dict.fromkeys(node.op_type for node in made))}"
            more = f"; {reason(floats[0], placement)}" if floats else ""
            found.append(Operator(name, kind, "float" if floats else "int8", spelled + more))
        else:
            found.append(Operator(name, kind, "int8", "inside the operator beside it"))
    return found


def one_of(node: ir.Node, placement: Placement) -> Operator:
    name, kind = str(node.name), node.op_type
    if placement.rules.kernels is None:
        return left_to_the_runtime(node, placement)
    if node in placement.int8:
        moves = kind in placement.rules.carry
        return Operator(name, kind, "int8", "the bytes are passed on" if moves else "")
    return Operator(name, kind, "float", reason(node, placement))


def left_to_the_runtime(node: ir.Node, placement: Placement) -> Operator:
    """Between pairs the runtime chooses the kernel; a convolution or product without them has none in int8."""
    name, kind = str(node.name), node.op_type
    read = [one in placement.grid for one in node.inputs if one is not None and array(one) is None]
    if kind in HEAVY:
        weighted = has_bytes(weight_behind(node)) and read[0]
        return (
            Operator(name, kind, "int8")
            if weighted
            else Operator(name, kind, "float", reason(node, placement))
        )
    if any(read):
        return Operator(name, kind, "as the runtime decides", "between pairs")
    return Operator(
        name, kind, "as the runtime decides", "without a pair: inside the operator before it, or in float"
    )


def weight_behind(node: ir.Node) -> ir.Value | None:
    """A weight, also behind the transpose that a MatMul reads it through."""
    value = node.inputs[1]
    maker = value.producer() if value is not None else None
    return maker.inputs[0] if maker is not None and maker.op_type == "Transpose" else value


def left_float(placement: Placement) -> dict[str, str]:
    """The convolutions and products that stay float, with the reason; none where the runtime decides."""
    if placement.rules.kernels is None:
        return {}
    floats = [node for node in placement.graph if node.op_type in HEAVY and node not in placement.int8]
    return {str(node.name): reason(node, placement) for node in floats}


def reason(node: ir.Node, placement: Placement) -> str:
    grid, kind = placement.grid, node.op_type
    moving = [one for one in node.inputs if one is not None and array(one) is None]
    if kind == "MatMul" and len(moving) == 2 and not has_bytes(weight_behind(node)):
        return "a product of two tensors, which int8 was not seen to speed up"
    if kind == "MatMul":
        return why_no_gemm(node)
    if kind in WEIGHTED:
        if not has_bytes(node.inputs[1]):
            return "its weight is not on the grid"
        if node.inputs[0] not in grid:
            return "what it reads is not on the grid"
        return "what it gives is not on the grid: it is an answer"
    if kind in placement.rules.carry:
        return "it passes on what it reads, which is float here"
    if kind not in (placement.rules.kernels or ()):
        return "the runtime has no int8 kernel for it"
    if any(one.is_graph_output() for one in node.outputs):
        return "what it gives is an answer, which stays float"
    if any(one not in grid for one in moving):
        return "what it reads is not on the grid"
    if any(one not in grid for one in node.outputs):
        return "what it gives is not on the grid: only float operators read it"
    return "nothing that it reads is made in int8"


def why_no_gemm(node: ir.Node) -> str:
    """Why a linear layer was not written as the product with a bias that has a kernel: see ``rewrites.linear``."""
    if [one.op_type for one in node.outputs[0].consumers()] != ["Add"]:
        return "a linear layer without a bias, for which the runtime has no kernel between pairs"
    return "a linear layer on rows of a number that the file does not say: export it with fixed sizes"
