"""Plain training: one player that learns from the labels alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batches import Batch
from pipeline.models.split_model import Parts
from pipeline.schemes.base import Player


class Supervised:
    """Cross-entropy with the labels."""

    teachers: list[Parts] = []  # noqa: RUF012  (always empty)

    def __init__(self, network: nn.Module, smoothing: float) -> None:
        self.players = {"student": Player(network)}
        self.smoothing = smoothing

    def step(self, batch: Batch, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        logits = self.players["student"].network(batch.images)[0]
        return {"student": hard_loss(logits.float(), batch, self.smoothing)}


def hard_loss(logits: Tensor, batch: Batch, smoothing: float) -> Tensor:
    """Cross-entropy with the labels; of mixed images with both, by their shares."""
    if batch.mixed is None:
        return F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
    own, other = (
        F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        for labels in (batch.labels, batch.mixed.labels)
    )
    return torch.lerp(other, own, batch.mixed.shares).mean()
