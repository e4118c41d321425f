"""A player in training: its optimiser and learning rate, its running average, its best state.

All of it is in its state, so that a training that was killed goes on with the same tensors.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.compute import distributed
from pipeline.compute.accelerator import PROCESSOR
from pipeline.data.decoded import ImageShape
from pipeline.recipe.schema import Training
from pipeline.schemes.base import Player
from pipeline.training.optimisers import clip, group_rates, optimiser_of


class Learner:
    """``settings`` are the training's, with the player's own optimiser in them."""

    def __init__(self, player: Player, settings: Training, shape: ImageShape) -> None:
        self.player, self.settings = player, settings
        self.optimiser = optimiser_of(player, settings, shape)
        self.average = copy.deepcopy(player.network) if settings.ema else None
        self.best: dict[str, Tensor] = {}

    @property
    def candidate(self) -> nn.Module:
        """The network that is validated and kept: the running average, where there is one."""
        return self.player.network if self.average is None else self.average

    @property
    def modules(self) -> list[nn.Module]:
        """All whose tensors are kept."""
        return [*self.player.modules, *([] if self.average is None else [self.average])]

    def train(self) -> None:
        for module in self.player.modules:
            module.train()

    def forget(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)

    def step(self, progress: float) -> None:
        """By the gradients that lie in the player, averaged over all ranks."""
        group_rates(self.optimiser, self.settings.lr * rate(self.settings, progress))
        distributed.all_reduce_mean(p.grad for group in self.optimiser.param_groups for p in group["params"])
        clip(self.optimiser, self.settings.clip)
        self.optimiser.step()
        if self.average is not None:
            blend(self.average, self.player.network, self.settings.ema)

    def remember(self) -> None:
        """The candidate as it is now is what ``finish`` leaves."""
        self.best = {name: tensor.clone() for name, tensor in self.candidate.state_dict().items()}

    def finish(self) -> None:
        """Leave the remembered state in the network, on the processor, in evaluation mode."""
        network, adapters = self.player.modules
        network.load_state_dict(self.best)
        network.to(PROCESSOR).eval()
        adapters.to(PROCESSOR)

    def state_dict(self) -> dict[str, Any]:
        modules = [module.state_dict() for module in self.modules]
        return {"modules": modules, "optimiser": self.optimiser.state_dict(), "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for module, tensors in zip(self.modules, state["modules"], strict=True):
            module.load_state_dict(tensors)
        self.optimiser.load_state_dict(state["optimiser"])
        self.best = state["best"]


def rate(settings: Training, progress: float) -> float:
    """The learning rate's factor after a share of the training."""
    if progress < settings.warmup:
        return max(progress / settings.warmup, 0.01)
    if settings.schedule == "step":
        return float(0.1 ** sum(progress >= milestone for milestone in settings.milestones))
    done = (progress - settings.warmup) / (1 - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def blend(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average ← decay · average + (1 − decay) · network; counters are copied."""
    own: Mapping[str, Tensor] = average.state_dict()
    trained: Mapping[str, Tensor] = network.state_dict()
    for mine, theirs in zip(own.values(), trained.values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, 1 - decay)
        else:
            mine.copy_(theirs)
