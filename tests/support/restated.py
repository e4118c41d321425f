"""What the restatements of schemes share, written from the equations: softmax, cross-entropy, KL, rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn, optim

from pipeline.data.batches import Batch
from pipeline.recipe.schema import Training


def furthest(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((mine - theirs).abs().max()) for mine, theirs in pairs)


def log_shares(logits: Tensor) -> Tensor:
    """ln of each row's e^z / Σ e^z."""
    return logits - logits.exp().sum(1, keepdim=True).log()


def entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -log_shares(logits)[range(len(labels)), labels].mean()


def divergence(target: Tensor, logits: Tensor) -> Tensor:
    """KL of the target's shares from the logits'."""
    return (log_shares(target).exp() * (log_shares(target) - log_shares(logits))).sum(1).mean()


def set_rate(optimiser: optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def descend(
    networks: Sequence[nn.Module],
    batches: Sequence[Batch],
    settings: Training,
    loss: Callable[[int, Batch], Tensor],
) -> None:
    """One epoch of SGD by the settings, on the cosine: a backward of ``loss(number, batch)`` a step."""
    steppers = [
        optim.SGD(one.parameters(), momentum=settings.momentum, weight_decay=settings.weight_decay)
        for one in networks
    ]
    for number, batch in enumerate(batches):
        total = loss(number, batch)
        for stepper in steppers:
            set_rate(stepper, settings.lr * (1 + math.cos(math.pi * number / len(batches))) / 2)
            stepper.zero_grad()
        total.backward()
        for stepper in steppers:
            stepper.step()
