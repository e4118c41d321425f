"""Cutting channels out of a network, a little more each time."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator

import torch
import torch_pruning as tp
from torch import nn
from torch_pruning.dependency.node import Node

from pipeline.data.decoded import ImageShape
from pipeline.models.catalogue import macs
from pipeline.models.execution import execute
from pipeline.models.tapped_model import Model
from pipeline.pruning.criteria import CRITERIA
from pipeline.pruning.trial import kept_whole
from targets.errors import Refusal, first_line
from targets.progress import say

STEPS = 50  # of the way to nothing left; each takes whole multiples of channels
IMAGES = 4


def cuts(
    model: Model,
    shape: ImageShape,
    criterion: str,
    multiple: int,
    gradients: Callable[[nn.Module], None] | None,
) -> Iterator[float]:
    """Cut the model's network in place, a little more each time; yields the share of its MACs that is left.

    Channels are ranked over the whole network and kept in multiples of ``multiple``. Layers that cannot lose channels
    are kept whole, and it is said. Raises Refusal where no layer can, with the reason.
    """
    network, image = model.network, torch.full((1, *shape), 0.5)
    before = macs(network, image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kept = fixed(network, shape)
            pruner = tp.pruner.BasePruner(
                network.eval(),
                image,
                CRITERIA[criterion](),
                global_pruning=True,
                pruning_ratio=1.0,
                iterative_steps=STEPS,
                round_to=multiple,
                ignored_layers=[network.get_submodule(name) for name in kept],
                in_channel_groups={},  # its own defaults are shared by all that it makes
                out_channel_groups={},
            )
            for _ in range(STEPS):
                if gradients is not None:
                    gradients(network)
                pruner.step()
                network.zero_grad()
                yield macs(network, image) / before
        except Refusal:
            raise
        except Exception as error:  # the tracer of torch-pruning raises whatever it meets
            raise Refusal(f"prune: torch-pruning cannot cut {blame(network, error)}; drop [prune]") from error


def fixed(network: nn.Module, shape: ImageShape) -> list[str]:
    """The layers that lose no channels: those that answer, and those that cannot; says why.

    Raises Refusal where none can.
    """
    record = execute(network, shape)
    end = record.number(record.answer)
    heads = [head.name for head in record.heads(end)] if end is not None else []
    images = torch.rand(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    whole, layers, groups = kept_whole(network, images, heads)
    if whole:
        name, why = next(iter(whole.items()))
        said = f"prune: {{}} of {groups} groups of layers can lose channels without harm to others; not {name}: {why}"
        if len(whole) == groups:
            raise Refusal(f"{said.format('none')}; drop [prune]")
        say(said.format(groups - len(whole)))
    return [*heads, *layers]


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
