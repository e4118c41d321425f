"""Cutting channels out of a network, and building a network that was cut.

A cut needs no history: the shapes of the tensors are enough to build it again.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.dependency.node import Node

from pipeline.data.decoded import ImageShape
from pipeline.models.catalogue import macs
from pipeline.models.execution import execute
from pipeline.models.tapped_model import Model
from pipeline.pruning.criteria import CRITERIA
from targets.errors import Refusal, first_line

STEPS = 50  # of the way to nothing left; each takes whole multiples of channels
Shapes = dict[str, list[int]]


def cuts(
    model: Model,
    shape: ImageShape,
    criterion: str,
    multiple: int,
    gradients: Callable[[nn.Module], None] | None,
) -> Iterator[float]:
    """Cut the model's network in place, a little more each time; yields the share of its MACs that is left.

    Channels are ranked over the whole network and kept in multiples of ``multiple``. Raises Refusal where the
    network cannot be traced, with the layer.
    """
    network, image = model.network, torch.full((1, *shape), 0.5)
    before = macs(network, image)
    record = execute(network, shape)
    end = record.number(record.answer)
    heads = [head.module for head in record.heads(end)] if end is not None else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pruner = tp.pruner.BasePruner(
                network.eval(),
                image,
                CRITERIA[criterion](),
                global_pruning=True,
                pruning_ratio=1.0,
                iterative_steps=STEPS,
                round_to=multiple,
                ignored_layers=heads,  # their outputs are the classes, and stay
            )
            for _ in range(STEPS):
                if gradients is not None:
                    gradients(network)
                pruner.step()
                network.zero_grad()
                yield macs(network, image) / before
        except Exception as error:  # the tracer of torch-pruning raises whatever it meets
            raise Refusal(f"prune: torch-pruning cannot cut {blame(network, error)}") from error


def blame(network: nn.Module, error: Exception) -> str:
    """The layer that an error came by, as well as it can be told, and what it said."""
    text = first_line(error)
    name = next(named_before(network, error), None)
    where = "this network" if name is None else f"this network near layer {name}"
    return f"{where} ({type(error).__name__}: {text})"


def named_before(network: nn.Module, error: Exception) -> Iterator[str]:
    """Layers at and before the nodes of torch-pruning's graph that an error passed, nearest first."""
    names = {module: name for name, module in network.named_modules()}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    todo = [node for f in reversed(frames) if isinstance(node := f.f_locals.get("node"), Node)]
    seen: set[int] = set()
    for node in todo:  # grows: breadth first, against the flow
        if id(node) not in seen:
            seen.add(id(node))
            if names.get(node.module):
                yield names[node.module]
            todo += node.inputs


def shapes_of(network: nn.Module) -> Shapes:
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def changed(network: nn.Module, original: Mapping[str, Sequence[int]]) -> Shapes:
    """The shapes that a cut has changed."""
    return {name: shape for name, shape in shapes_of(network).items() if shape != list(original[name])}


def resize(network: nn.Module, shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    """Give the network's layers the sizes of ``shapes`` (those that differ from its own), with fresh tensors."""
    for name, module in network.named_modules():
        tensors = {
            key: shapes[full]
            for key, _ in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            if (full := f"{name}.{key}" if name else key) in shapes
        }
        if tensors:
            resize_layer(name, module, tensors)
    return network


def resize_layer(name: str, module: nn.Module, tensors: Mapping[str, Sequence[int]]) -> None:
    for key, shape in tensors.items():
        fresh = torch.zeros(*shape)
        setattr(module, key, nn.Parameter(fresh) if key in module._parameters else fresh)
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(module, nn.Conv2d):
        depthwise = module.groups == module.in_channels == module.out_channels
        module.out_channels = weight.shape[0]
        module.groups = weight.shape[0] if depthwise else module.groups
        module.in_channels = weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        module.num_features = weight.shape[0]
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(weight.shape)
    else:
        raise Refusal(f"prune: layer {name} ({type(module).__name__}) cannot be given another size")
