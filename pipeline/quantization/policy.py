"""Which tensors of a captured graph are rounded to int8.

Rounded are the inputs and weights of convolutions and linear layers, what a convolution gives, and what sums,
products, concatenations, pools and activations read. No runtime wants a grid at all of these places: each
target's file keeps those that its rules name (``targets/convert``), so training sees at least the rounding that
any target has. Biases stay in float here; a runtime adds them in 32 bits.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

import torch
from torch import Tensor, fx

aten = torch.ops.aten
CONVOLUTIONS = {aten.conv2d.default, aten.conv1d.default, aten.conv2d.padding, aten.conv1d.padding}
WEIGHTED = {*CONVOLUTIONS, aten.linear.default}
SUMS = {aten.add.Tensor, aten.add_.Tensor}
PRODUCTS = {aten.mul.Tensor, aten.mul_.Tensor}
# They combine or move what flows.
FLOWING = {
    *SUMS,
    *PRODUCTS,
    aten.cat.default,
    aten.adaptive_avg_pool2d.default,
    aten.avg_pool2d.default,
    aten.mean.dim,
}
# Each output is one of the inputs, so it lies on the input's grid.
CHOOSING = {aten.max_pool2d.default}
# Each output is some of the inputs in another place: what is rounded before needs no grid of its own behind.
MOVING = {
    operator.getitem,
    *(
        getattr(getattr(aten, name), overload)
        for name, overload in (
            *(("slice", "Tensor"), ("select", "int"), ("squeeze", "dim"), ("unsqueeze", "default")),
            *(("split", "Tensor"), ("split_with_sizes", "default"), ("chunk", "default")),
            *(("view", "default"), ("reshape", "default"), ("flatten", "using_ints"), ("clone", "default")),
            *(("permute", "default"), ("transpose", "int"), ("contiguous", "default")),
            *(("pixel_shuffle", "default"), ("pixel_unshuffle", "default"), ("channel_shuffle", "default")),
        )
    ),
}
RELUS = {aten.relu.default, aten.relu_.default}
CLAMPS = {aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default, aten.clamp_.default}
ACTIVATIONS = {
    getattr(aten, name).default
    for name in (
        *("hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_", "silu", "silu_", "gelu"),
        *(
            "sigmoid",
            "sigmoid_",
            "tanh",
            "leaky_relu",
            "leaky_relu_",
            "prelu",
            "elu",
            "elu_",
            "mish",
            "mish_",
        ),
    )
}


def rounded(node: fx.Node) -> list[fx.Node]:
    """The tensors that are rounded for an operator's sake: of its inputs (its weight left out), and its output."""
    if node.target in CONVOLUTIONS:
        given = list(node.users) if rectified(node) else [node]
        return [*first_map(node), *(one for one in given if not is_exit(one))]
    if node.target in ACTIVATIONS or node.target in WEIGHTED or node.target in CHOOSING:
        return first_map(node)
    if node.target in SUMS and stays_float(node):
        return []
    return list(feature_maps(node)) if node.target in FLOWING else []


def first_map(node: fx.Node) -> list[fx.Node]:
    first = node.args[0]
    return [first] if isinstance(first, fx.Node) and is_map(first) else []


def rectified(node: fx.Node) -> bool:
    """Whether an operator is read by rectifiers alone: every runtime computes these inside it, and rounds after."""
    return all(
        user.target in RELUS or (user.target in CLAMPS and user.args[1:2] in ((0,), (0.0,)))
        for user in node.users
    )


def is_exit(node: fx.Node) -> bool:
    """Whether a tensor only goes to the graph's outputs, as it is or in another shape: answers stay float."""
    return bool(node.users) and all(
        user.op == "output" or (moves(user) and is_exit(user)) for user in node.users
    )


def moves(node: fx.Node) -> bool:
    return any(word in str(node.target) for word in ("clone", "view", "flatten", "reshape", "squeeze"))


def stays_float(node: fx.Node) -> bool:
    """Whether a sum is read by normalisations and further sums alone, as the residual stream of a transformer is.

    Its outliers would cost the most there, and no int8 operator reads it.
    """
    return all(
        user.target is aten.layer_norm.default
        or (user.target in SUMS and stays_float(user))
        or user.op == "output"
        or is_exit(user)
        for user in node.users
    )


def feature_maps(node: fx.Node) -> Iterator[fx.Node]:
    """The inputs that are batched float tensors; none where one of them is a scalar or a constant."""
    first = node.args[0]
    arguments = list(first) if isinstance(first, (list, tuple)) else list(node.args[:2])
    nodes = [arg for arg in arguments if isinstance(arg, fx.Node)]
    if all(arg.op != "get_attr" and is_map(arg) for arg in nodes):
        both = node.target not in SUMS | PRODUCTS or len(nodes) > 1
        yield from nodes if both else ()


def is_map(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2
