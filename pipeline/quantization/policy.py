"""Which tensors of a captured graph are rounded to int8, and which arithmetic is left in float.

Rounded are the inputs and weights of convolutions and linear layers, and what sums, products, concatenations and
pools combine, since every runtime that has these operators in int8 wants int8 inputs. Biases stay in float here; a
runtime adds them in 32 bits.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

aten = torch.ops.aten
WEIGHTED = {aten.conv2d.default, aten.conv1d.default, aten.linear.default}
SUMS = {aten.add.Tensor, aten.add_.Tensor, aten.mul.Tensor, aten.mul_.Tensor}
# They combine or move what flows.
FLOWING = {
    *SUMS,
    aten.cat.default,
    aten.adaptive_avg_pool2d.default,
    aten.avg_pool2d.default,
    aten.mean.dim,
}
# Each output is one of the inputs, so it lies on the input's grid.
CHOOSING = {aten.max_pool2d.default}
# Words in the names of operators that cost time and have no int8 form here.
COSTLY = (
    "conv",
    "linear",
    "matmul",
    "bmm",
    "layer_norm",
    "attention",
    "hardswish",
    "sigmoid",
    "silu",
    "gelu",
)


def rounded(node: fx.Node) -> list[fx.Node]:
    """The inputs of an operator that are rounded, its weight left out."""
    if node.target in WEIGHTED or node.target in CHOOSING:
        return [node.args[0]] if isinstance(node.args[0], fx.Node) else []
    return feature_maps(node) if node.target in FLOWING else []


def feature_maps(node: fx.Node) -> list[fx.Node]:
    """The inputs that are batched float tensors; none where one of them is a scalar or a constant."""
    first = node.args[0]
    arguments = list(first) if isinstance(first, (list, tuple)) else list(node.args[:2])
    nodes = [arg for arg in arguments if isinstance(arg, fx.Node)]
    if any(arg.op == "get_attr" or not is_map(arg) for arg in nodes) or not nodes:
        return []
    return [] if node.target in SUMS and len(nodes) < 2 else nodes


def is_map(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2


def left_float(graph: fx.GraphModule) -> dict[str, str]:
    """The arithmetic without an int8 form, by the name of its node, with the reason."""
    floats = {}
    for node in graph.graph.nodes:
        name = str(node.target).removeprefix("aten.").split(".")[0]
        if (
            node.op == "call_function"
            and node.target not in WEIGHTED
            and any(word in name for word in COSTLY)
        ):
            floats[node.name] = f"{name}: no int8 form in the trained grid"
    return floats
