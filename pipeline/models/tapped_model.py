"""A network with its normalisation inside and its features tapped: what every torch room handles.

``Model`` takes images in 0..1 and returns a flat tuple ``(logits, pooled, *stages)``. The taps are outputs,
not hooks that a user of the model must set: so they are still there when the graph has been captured for
quantization, and an export that asks for the logits alone drops them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from targets.errors import Refusal, first_line


class Outputs(NamedTuple):
    """logits (N, C); pooled (N, D), what the classifier sees; stages, each (N, C_i, H_i, W_i)."""

    logits: Tensor
    pooled: Tensor
    stages: tuple[Tensor, ...]


def outputs(flat: Sequence[Tensor]) -> Outputs:
    return Outputs(flat[0], flat[1], tuple(flat[2:]))


class Model(nn.Module):
    """images (N, 3, H, W) in 0..1 → (logits, pooled, *stages)."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float], std: Sequence[float], taps: Sequence[str]
    ) -> None:
        super().__init__()
        self.network = network
        self.taps = tuple(taps)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        seen: dict[str, Tensor] = {}
        # A copy, because what follows may overwrite its input in place (torchvision's DenseNet does).
        hooks = [
            self.network.get_submodule(name).register_forward_hook(
                lambda module, args, out, name=name: seen.__setitem__(name, out.clone())
            )
            for name in self.taps
        ]
        head = last_linear(self.network)
        if head is not None:
            hooks.append(head.register_forward_pre_hook(lambda module, args: seen.__setitem__("", args[0])))
        try:
            logits = self.network((images - self.mean) / self.std)
        finally:
            for hook in hooks:
                hook.remove()
        stages = [seen[name] for name in self.taps]
        pooled = seen.get("", stages[-1] if stages else logits)
        return (logits, pooled.flatten(2).mean(-1) if pooled.ndim == 4 else pooled, *stages)


def last_linear(network: nn.Module) -> nn.Linear | None:
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


def heads_of(network: nn.Module, size: int, classes: int) -> set[str]:
    """The layers that give the answers: the last that run, as long as their outputs are the classes."""
    names = {module: name for name, module in network.named_modules()}
    ran: list[nn.Conv2d | nn.Linear] = []
    layers = [module for module in names if isinstance(module, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(lambda module, *_: ran.append(module)) for layer in layers]
    try:
        probe(network, size)
    finally:
        for handle in handles:
            handle.remove()
    last = takewhile(lambda module: module.weight.shape[0] == classes, reversed(ran))
    return {names[module] for module in last}


def find_taps(network: nn.Module, size: int) -> tuple[str, ...]:
    """The stages of a network: its own ``taps``, or the last module's output at each resolution."""
    declared = getattr(network, "taps", None)
    if declared is not None:
        return tuple(declared)
    seen: list[tuple[str, int, int]] = []  # (module, side of its input, side of its output), as they finish

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            maps = [x for x in (args[0] if args else None, out) if isinstance(x, Tensor) and x.ndim == 4]
            if len(maps) == 2 and out.shape[-1] > 1 and not is_pool(module):
                seen.append((name, maps[0].shape[-1], out.shape[-1]))

        return hook

    handles = [m.register_forward_hook(watch(name)) for name, m in network.named_modules() if name]
    try:
        probe(network, size)
    finally:
        for handle in handles:
            handle.remove()
    # Inside a block that halves the image, a path runs beside its layers: no place to cut.
    blocks = [
        f"{name}."
        for name, before, after in seen
        if after < before <= 2 * after and not isinstance(network.get_submodule(name), nn.Sequential)
    ]
    last = {after: name for name, _, after in seen if not name.startswith(tuple(blocks))}
    # A stage is at least halved from the image: the stem at full size is none, unless nothing else is.
    return tuple(name for side, name in last.items() if side < size) or tuple(last.values())


def is_pool(module: nn.Module) -> bool:
    return isinstance(module, (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveMaxPool2d))


def probe(network: nn.Module, size: int) -> Any:
    """The network's answer to two grey images, in evaluation mode."""
    was_training = network.training
    device = next(network.parameters()).device
    with torch.no_grad():
        answer = network.eval()(torch.full((2, 3, size, size), 0.5, device=device))
    network.train(was_training)
    return answer


def check_answers(network: nn.Module, size: int, classes: int, where: str) -> None:
    """Raises Refusal unless the network maps (N, 3, size, size) to (N, classes)."""
    for mode in ("training", "evaluation"):
        trial = copy.deepcopy(network).train(mode == "training")
        try:
            with torch.no_grad():
                answer = trial(torch.full((2, 3, size, size), 0.5))
        except Exception as error:  # whatever somebody's own code raises
            line = first_line(error)
            raise Refusal(
                f"{where}: in {mode} the network fails on images of {size}x{size}: {line}"
            ) from None
        shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        if shape != (2, classes):
            wanted = f"{classes} classes want (2, {classes})"
            raise Refusal(f"{where}: for 2 images the network in {mode} answers {shape}; {wanted}")
