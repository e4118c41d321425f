"""Which layers can lose channels: tried on copies, before anything is cut for good.

torch-pruning follows channels from layer to layer by the graph of gradients. Where a forward names channels by number
(a split, a slice, a reshape), it may follow the wrong ones: the cut network fails, or computes something else in
silence. A right cut has a simple property: the network answers as the whole one does with the cut channels' weights
at zero. Layers for which this does not hold are kept whole.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pipeline.pruning.shapes import changed, resize, shapes_of
from targets.errors import first_line

FEW = 8  # one channel in so many is cut, the first ones: no chunk, shuffle or slice is hit evenly
EQUAL = 1e-3  # of the largest answer: float32 in another order
NEAR_ZERO = 1e-3  # weights that begin there (a residual branch's last scale) would hide what a wrong cut does
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)  # that channels begin at


class WithoutChannelStatistics(TorchFunctionMode):
    """Norms over channels only scale and shift: their statistics are those of the channels that are there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given, named = list(args), dict(kwargs or {})
        if getattr(func, "__name__", "") not in ("layer_norm", "group_norm"):
            return func(*given, **named)
        x = given[0]
        weight, bias = (
            given[at] if len(given) > at else named.get(key) for at, key in ((2, "weight"), (3, "bias"))
        )
        ahead = (1, -1, *[1] * (x.ndim - 2)) if func.__name__ == "group_norm" else None
        for tensor, apply in ((weight, torch.mul), (bias, torch.add)):
            if tensor is not None:
                x = apply(x, tensor if ahead is None else tensor.reshape(ahead))
        return x


class Chain(NamedTuple):
    """Layers whose channels go together: the names of all that give them, and the few channels that a trial cuts."""

    layers: list[str]
    few: list[int]


def kept_whole(
    network: nn.Module, images: Tensor, heads: Sequence[str]
) -> tuple[dict[str, str], list[str], int]:
    """The groups that cannot be cut, each by its first layer with why; all their layers; the number of groups.

    ``heads`` are left out. Raises whatever torch-pruning raises where it cannot trace the network at all.
    """
    subject = lively(network, images)  # first: what a network keeps of a pass with gradients cannot be copied
    chains = chains_of(network, images, heads)

    def failing(names: Sequence[str]) -> dict[str, str]:
        why = fault(subject, images, {name: chains[name].few for name in names}) if names else ""
        if not why or len(names) == 1:
            return dict.fromkeys(names, why) if why else {}
        half = len(names) // 2
        return failing(names[:half]) | failing(names[half:])

    whole = failing(list(chains))
    rest = {name: chain.few for name, chain in chains.items() if name not in whole}
    if whole and rest and (why := fault(subject, images, rest)):
        whole |= dict.fromkeys(rest, why)  # each by itself, but not together
    return whole, [layer for name in whole for layer in chains[name].layers], len(chains)


def chains_of(network: nn.Module, images: Tensor, heads: Sequence[str]) -> dict[str, Chain]:
    """Those of a network, by the name of the layer that each begins at."""
    graph, names = trace(network, images), {module: name for name, module in network.named_modules()}
    found = {}
    for group in graph.get_all_groups([network.get_submodule(name) for name in heads], LAYERS):
        giving = [dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
        parts = parts_of(group)
        size = len(group[0].idxs) // parts
        few = [part * size + at for part in range(parts) for at in range(max(1, size // FEW))]
        layers = [names[module] for module in giving if module in names]
        found[names[group[0].dep.target.module]] = Chain(layers, few)
    return found


def trace(network: nn.Module, images: Tensor) -> tp.DependencyGraph:
    return tp.DependencyGraph().build_dependency(network.eval(), images[:1], verbose=False)


def fault(network: nn.Module, images: Tensor, cuts: Mapping[str, Sequence[int]]) -> str:
    """What goes wrong where layers lose these channels; nothing where all is well."""
    try:
        left = survivors(network, images, cuts)
        cut, masked = copy.deepcopy(network), copy.deepcopy(network)
        resize(cut, {name: list(kept.shape) for name, kept in left.items()})
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                if name in left:
                    cut.state_dict()[name].copy_(tensor.flatten()[left[name]])
            for name, parameter in masked.named_parameters():
                if name in left:
                    alive = torch.zeros_like(parameter).flatten()
                    alive[left[name].flatten()] = 1
                    parameter.mul_(alive.reshape(parameter.shape))
            cut(images)
            with WithoutChannelStatistics():
                expected, found = masked(images), cut(images)
    except Exception as error:  # of torch-pruning, or of the network's own forward
        return f"{type(error).__name__}: {first_line(error)}"
    apart, reach = float((expected - found).abs().max()), float(expected.abs().max())
    return "" if apart <= EQUAL * reach else f"the cut network answers {apart / reach:.2g} of its reach apart"


def survivors(network: nn.Module, images: Tensor, cuts: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """The tensors that some layers' loss of channels changes, each as the flat places that its elements had before.

    The cut is made on a copy that holds these places for weights.
    """
    places, before = copy.deepcopy(network), shapes_of(network)
    graph = trace(places, images)
    for tensor in places.double().state_dict().values():
        tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape))
    for name, few in cuts.items():
        layer = places.get_submodule(name)
        group = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, few)
        if not graph.check_pruning_group(group):
            raise ValueError("its channels hang together")
        group.prune()
    return {name: places.state_dict()[name].long() for name in changed(places, before)}


def parts_of(group: tp.Group) -> int:
    """Into how many parts grouped convolutions and norms divide a group's channels; each part loses as many."""
    modules = [dep.target.module for dep, _ in group]
    convolutions = [
        m.groups for m in modules if isinstance(m, nn.modules.conv._ConvNd) and m.groups < m.out_channels
    ]
    return max([1, *convolutions, *(m.num_groups for m in modules if isinstance(m, nn.GroupNorm))])


@torch.no_grad()
def lively(network: nn.Module, images: Tensor) -> nn.Module:
    """A copy through which a signal flows: batch-norms with the images' statistics, no weights near zero."""
    made = copy.deepcopy(network).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        if parameter.numel() and float(parameter.abs().max()) < NEAR_ZERO:
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    for norm in made.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.track_running_stats:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
    made(images)
    return made.eval()
