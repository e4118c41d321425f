"""The grid in a graph: a module behind each rounded tensor that keeps its scale and rounds what flows.

All scales are symmetric with zero point 0 and 127 steps either side, one a tensor for what flows and one an output
channel for weights: every target can take that (TensorRT wants zero points of 0), and files for other targets are
derived from it. A weight's scale is always that of its present values, so it is kept nowhere.
"""

from __future__ import annotations

import copy

import torch

# Registers the operators that the exporters read as QuantizeLinear and DequantizeLinear.
import torch.ao.quantization.fx._decomposed
from torch import Tensor, fx, nn

from pipeline.quantization.capture import nodes_of, read, tensor_at
from pipeline.quantization.policy import CHOOSING, MOVING, WEIGHTED, is_exit, moves, rounded
from targets.convert.grid import SMALLEST, STEPS
from targets.quantize.histogram import Histogram

decomposed = torch.ops.quantized_decomposed


class Rounding(nn.Module):
    """Rounds a tensor to its grid; passes it on unchanged while it is calibrated or switched off.

    The gradient passes where a value lies within the grid and is 0 outside (straight through).
    """

    scale: Tensor  # () float32
    zero: Tensor  # () int32, always 0

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero", torch.zeros((), dtype=torch.int32), persistent=False)
        self.seen: Histogram | None = None  # there while it is calibrated
        self.on = True

    def forward(self, x: Tensor) -> Tensor:
        if self.seen is not None:
            self.seen.add(x.detach().float().cpu().numpy())
            return x
        if not self.on:
            return x
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, -STEPS, STEPS)


class WeightRounding(nn.Module):
    """Rounds a weight (outputs, …), one scale an output: the largest size of its values over 127."""

    def __init__(self) -> None:
        super().__init__()
        self.on = True

    def forward(self, weight: Tensor) -> Tensor:
        if not self.on:
            return weight
        scale = scales(weight)
        zeros = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -STEPS, STEPS)


@torch.no_grad()
def scales(weight: Tensor) -> Tensor:
    """The scale of each output of a weight (outputs, …)."""
    largest = weight.detach().flatten(1).abs().amax(1)
    return (largest.float() / STEPS).clamp_min(SMALLEST)


def insert_grid(graph: fx.GraphModule) -> fx.GraphModule:
    """Round the tensors that the policy names, in place; every reader but the graph's outputs sees them rounded.

    A tensor has one ``Rounding``, named after its node, however many nodes read it.
    """
    for node in nodes_of(graph):
        if node.op != "call_function":
            continue
        for source in rounded(node):
            if not is_rounding(graph, source):
                moved = moved_from(graph, source)
                name = str(moved.target) if moved is not None else f"grid.{source.name}"
                module = graph.get_submodule(name) if moved is not None else Rounding()
                round_tensor(graph, source, name, module)
        if node.target in CHOOSING and rounded(node):
            shared = read(node, 0)
            round_tensor(graph, node, str(shared.target), graph.get_submodule(str(shared.target)))
        if node.target in WEIGHTED:
            weight = read(node, 1)
            if not is_rounding(graph, weight):
                round_tensor(graph, weight, f"grid.{weight.name}", WeightRounding())
    graph.recompile()
    return graph


def moved_from(graph: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The rounding of which a tensor holds values in other places, such as a slice's or a shuffle's.

    It keeps that grid: runtimes move integers and cannot exchange their scale on the way.
    """
    while node.op == "call_function" and node.target in MOVING and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node if is_rounding(graph, node) else None


def is_rounding(graph: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(
        graph.get_submodule(str(node.target)), (Rounding, WeightRounding)
    )


def round_tensor(graph: fx.GraphModule, node: fx.Node, name: str, module: nn.Module) -> None:
    """Every node that computes with a tensor reads it rounded; what only copies it out does not."""
    graph.add_submodule(name, module)
    with graph.graph.inserting_after(node):
        behind = graph.graph.call_module(name, (node,))
    behind.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(behind, lambda user: user is not behind and not leaves(user))


def leaves(user: fx.Node) -> bool:
    """Whether a reader only hands a tensor to the graph's outputs, as the copy of a tap does."""
    return user.op == "output" or (moves(user) and is_exit(user))


def roundings(graph: nn.Module) -> list[Rounding]:
    """Those of what flows, each once, in the order of the graph."""
    return [module for module in graph.modules() if isinstance(module, Rounding)]


def switch(graph: nn.Module, on: bool) -> None:
    """All rounding on or off; off, a graph computes what its network does."""
    for module in graph.modules():
        if isinstance(module, (Rounding, WeightRounding)):
            module.on = on


@torch.no_grad()
def convert(grid: fx.GraphModule, fold: bool = True) -> fx.GraphModule:
    """A copy in which each rounding is a quantize and a dequantize operator, one of these for each reader.

    ``fold``: weights are kept in int8; else they stay float and are rounded in the graph.
    """
    made = copy.deepcopy(grid)
    for node in nodes_of(made):
        if is_rounding(made, node):
            module = made.get_submodule(str(node.target))
            if isinstance(module, Rounding):
                quantize_tensor(made, node, float(module.scale))
            else:
                quantize_weight(made, node, fold)
            made.graph.erase_node(node)
    return fx.GraphModule(made, made.graph)


def quantize_tensor(graph: fx.GraphModule, node: fx.Node, scale: float) -> None:
    parameters = (scale, 0, -STEPS, STEPS, torch.int8)
    with graph.graph.inserting_before(node):
        quantized = graph.graph.call_function(
            decomposed.quantize_per_tensor.default, (node.args[0], *parameters)
        )
    for user in list(node.users):
        with graph.graph.inserting_before(user):
            back = graph.graph.call_function(
                decomposed.dequantize_per_tensor.default, (quantized, *parameters)
            )
        user.replace_input_with(node, back)


def quantize_weight(graph: fx.GraphModule, node: fx.Node, fold: bool) -> None:
    source = node.args[0]
    assert isinstance(source, fx.Node), "a rounding has one input"
    name = str(node.target).replace(".", "_")
    weight = tensor_at(graph, str(source.target))  # a parameter, or a buffer as of a fixed kernel
    scale = scales(weight)
    zeros = torch.zeros_like(scale, dtype=torch.int64)
    quantize = decomposed.quantize_per_channel.default
    limits = (0, -STEPS, STEPS, torch.int8)
    graph.register_buffer(f"{name}_scale", scale)
    graph.register_buffer(f"{name}_zero", zeros)
    with graph.graph.inserting_before(node):
        parameters = (graph.graph.get_attr(f"{name}_scale"), graph.graph.get_attr(f"{name}_zero"), *limits)
        if fold:
            graph.register_buffer(f"{name}_int8", quantize(weight, scale, zeros, *limits))
            quantized = graph.graph.get_attr(f"{name}_int8")
        else:
            quantized = graph.graph.call_function(quantize, (source, *parameters))
    for user in list(node.users):
        with graph.graph.inserting_before(user):
            back = graph.graph.call_function(
                decomposed.dequantize_per_channel.default, (quantized, *parameters)
            )
        user.replace_input_with(node, back)
