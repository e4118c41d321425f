"""Plain training: one player that learns from the labels alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.data.batches import Batch
from pipeline.models.tapped_model import outputs
from pipeline.schemes.base import Phase, Player, Scheme
from pipeline.schemes.labels import Labels


class Supervised(Scheme):
    """The loss of the labels."""

    def __init__(self, network: nn.Module, labels: Labels) -> None:
        self.players = {"student": Player(network)}
        self.labels = labels

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(("student",), self.losses)]

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        answers = outputs(self.players["student"].network(batch.images))
        return {"student": self.labels(answers, batch)}
