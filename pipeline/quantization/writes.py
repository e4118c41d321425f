"""What a network writes in place into a rounded tensor.

Rounding makes a copy, and in an exported graph every reader of a rounded tensor has a copy of its own. What is
written into a part of it, or into a view of it, would be lost for those who read the tensor itself afterwards.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

from torch import fx

from pipeline.quantization.capture import nodes_of, read
from pipeline.quantization.grid import is_rounding
from targets.errors import Refusal


def check_writes(graph: fx.GraphModule) -> None:
    """Raises Refusal where a rounded tensor is read again after something was written into a view of it."""
    place = {node: number for number, node in enumerate(nodes_of(graph))}
    for node in place:
        if node.op != "call_function" or not getattr(schema(node), "is_mutable", False):
            continue
        chain = [read(node, 0), *seen_through(graph, read(node, 0))]
        again = [reader for one in chain for reader in one.users if place[reader] > place[node]]
        if again and any(is_rounding(graph, one) for one in chain):
            raise Refusal(
                f"student: its forward writes in place into a part of a tensor ({node.name}) and reads the whole"
                f" again ({again[0].name}), which rounding would part; make a new tensor: torch.cat, or"
                " inplace=False"
            )


def seen_through(graph: fx.GraphModule, node: fx.Node) -> Iterator[fx.Node]:
    """The tensors that a tensor is a view of, or a rounded copy of, nearest first."""
    while node.op != "placeholder" and (is_view(node) or is_rounding(graph, node)):
        node = read(node, 0)
        yield node


def is_view(node: fx.Node) -> bool:
    if node.target is operator.getitem:
        return True
    found = schema(node)
    returned = found.returns if found is not None else ()
    return any(one.alias_info is not None and not one.alias_info.is_write for one in returned)


def schema(node: fx.Node) -> Any:
    return getattr(node.target, "_schema", None)
