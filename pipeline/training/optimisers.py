"""The optimiser of a player: its parameters in groups by learning rate and weight decay.

With ``layer_decay`` the learning rate falls by this factor from one feature level to the one before it, so what lies
near the image keeps most of what it was given. What lies behind the last level, and adapters, learn at the full rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from pipeline.data.batches import whole
from pipeline.data.decoded import ImageShape
from pipeline.models.execution import execute
from pipeline.models.tapped_model import Model
from pipeline.recipe.schema import Training
from pipeline.schemes.base import Player
from targets.errors import Refusal

SECOND_MOMENT = 0.999  # the decay of AdamW's average of squares


def optimiser_of(player: Player, settings: Training, shape: ImageShape) -> torch.optim.Optimizer:
    """The optimiser of a player for images of a shape; each group keeps its ``scale`` of the rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for scale, parameter in scaled(player, settings, shape):
        decays = settings.decay_norms or parameter.ndim > 1  # norms' gains and biases have one dimension
        groups.setdefault((scale, settings.weight_decay if decays else 0.0), []).append(parameter)
    rows = [
        {"params": parameters, "scale": scale, "weight_decay": decay}
        for (scale, decay), parameters in groups.items()
    ]
    # Not fused: that fails where a parameter's first gradient comes later than others'.
    if settings.optimizer == "adamw":
        betas = (settings.momentum, SECOND_MOMENT)
        return torch.optim.AdamW(rows, lr=settings.lr, betas=betas, foreach=True)
    return torch.optim.SGD(rows, lr=settings.lr, momentum=settings.momentum, foreach=True)


def scaled(player: Player, settings: Training, shape: ImageShape) -> Iterator[tuple[float, nn.Parameter]]:
    """Every parameter with its share of the learning rate."""
    network = player.network
    depth: Mapping[str, int] = {}
    if settings.layer_decay < 1:
        assert isinstance(network, Model), "the recipe refuses it for what is trained on the grid"
        depth = depths(network, shape)
    deepest = max(depth.values(), default=0)
    for name, parameter in network.named_parameters():
        yield settings.layer_decay ** (deepest - depth.get(name, deepest)), parameter
    yield from ((1.0, parameter) for parameter in player.adapters.parameters())


def depths(model: Model, shape: ImageShape) -> Mapping[str, int]:
    """Of each parameter how many feature levels are done before the layer that it belongs to begins."""
    record = execute(model.network, shape)
    ends = [record.calls[tap].gave for tap in model.taps if tap in record.calls]
    begins = {f"network.{name}": call.begin for name, call in record.calls.items()}
    found = {}
    for name, _ in model.named_parameters():
        owner = name.rpartition(".")[0]
        while owner and owner not in begins:  # what a layer holds that is not called itself
            owner = owner.rpartition(".")[0]
        found[name] = sum(end is not None and end < begins.get(owner, 0) for end in ends)
    return found


def clip(optimiser: torch.optim.Optimizer, most: float) -> None:
    """Scale all gradients together so that their length is ``most`` at most; 0 leaves them as they are."""
    if most:
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, most)


def settle(settings: Training, images: int, ranks: int, where: str) -> Training:
    """The settings with a warm-up in steps said as a share of the training. Raises Refusal where it fills it."""
    if not settings.warmup_steps or not settings.epochs:
        return settings
    steps = settings.epochs * (images // whole(settings.batch, images, ranks))
    if settings.warmup_steps >= steps:
        raise Refusal(f"{where}.warmup_steps: {settings.warmup_steps} of a training of {steps}; give fewer")
    return settings.model_copy(update={"warmup": settings.warmup_steps / steps})


def group_rates(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Give each group its share of the learning rate."""
    rows: list[dict[str, Any]] = optimiser.param_groups
    for group in rows:
        group["lr"] = lr * group["scale"]
