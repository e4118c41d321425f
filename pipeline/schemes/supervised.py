"""Plain training: one player that learns from the labels alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batches import Batch
from pipeline.models.tapped_model import Outputs, outputs
from pipeline.schemes.base import Phase, Player, Scheme

# Weights of the losses of auxiliary heads: of GoogLeNet's two (Szegedy et al. 2015), and of Inception v3's one.
EACH_AUXILIARY, ONE_AUXILIARY = 0.3, 0.4


class Supervised(Scheme):
    """Cross-entropy with the labels."""

    def __init__(self, network: nn.Module, smoothing: float) -> None:
        self.players = {"student": Player(network)}
        self.smoothing = smoothing

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(("student",), self.losses)]

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        answers = outputs(self.players["student"].network(batch.images))
        return {"student": hard_loss(answers, batch, self.smoothing)}


def label_term(answers: Outputs, batch: Batch, weight: float, smoothing: float) -> Tensor:
    """weight · the loss of the labels; at 0 it has no gradient, where one of zeros would let weight decay act."""
    if not weight:
        return torch.zeros((), device=answers.logits.device)
    return weight * hard_loss(answers, batch, smoothing)


def hard_loss(answers: Outputs, batch: Batch, smoothing: float) -> Tensor:
    """Cross-entropy with the labels, and that of auxiliary heads with its weight."""
    total = label_loss(answers.logits.float(), batch, smoothing)
    weight = ONE_AUXILIARY if len(answers.auxiliary) == 1 else EACH_AUXILIARY
    for logits in answers.auxiliary:
        total = total + weight * label_loss(logits.float(), batch, smoothing)
    return total


def label_loss(logits: Tensor, batch: Batch, smoothing: float) -> Tensor:
    """Cross-entropy with the labels; of mixed images with both, by their shares."""
    if batch.mixed is None:
        return F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
    own, other = (
        F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        for labels in (batch.labels, batch.mixed.labels)
    )
    return torch.lerp(other, own, batch.mixed.shares).mean()
