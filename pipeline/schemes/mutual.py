"""Mutual learning: several untrained networks learn from the labels and from each other's answers; no teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.data.batches import Batch
from pipeline.losses.response import softened
from pipeline.losses.step import full
from pipeline.models.tapped_model import outputs
from pipeline.schemes.base import Entry, Phase, Player, Scheme, Setup
from pipeline.schemes.requirements import above_zero, with_peers


class Mutual(Scheme):
    """The student and its peers, stepped together.

    Of each player k of K: label_weight · cross-entropy + weight / (K − 1) · Σ_{l ≠ k} T² · KL(p_l ‖ p_k), p the
    softmax of logits / T; what a player learns from is a constant for it. Source: Zhang et al. 2018, arXiv
    1706.00384, with T = 1 and both weights 1.
    """

    def __init__(self, setup: Setup, players: dict[str, Player], weight: float, temperature: float) -> None:
        self.players, self.labels = players, setup.labels
        self.weight, self.temperature = weight, temperature

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(tuple(self.players), self.losses)]

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        answers = {name: outputs(player.network(batch.images)) for name, player in self.players.items()}
        logits = {name: full(answer.logits) for name, answer in answers.items()}
        losses = {}
        for name, own in logits.items():
            others = [theirs.detach() for peer, theirs in logits.items() if peer != name]
            apart = torch.stack([softened(own, theirs, self.temperature) for theirs in others]).mean()
            labels = self.labels(answers[name], batch)
            losses[name] = labels + self.weight * apart
        return losses


def mutual(
    setup: Setup,
    *,
    peers: Sequence[str] = ("student",),
    weight: float = 1.0,
    temperature: float = 1.0,
) -> Mutual:
    """The student and its peers learn from the labels and from each other's answers.

    ``peers`` are networks by name; "student" is one more of the student's kind. The student ships.
    """
    above_zero(setup, "mutual", temperature=temperature)
    return Mutual(setup, with_peers(setup, "mutual", peers), weight, temperature)


MUTUAL = {
    "mutual": Entry(
        mutual,
        "Zhang et al. 2018, arXiv 1706.00384",
        "there is no trained teacher, and time for one more network of the student's size",
        "each peer is trained beside the student",
        teachers="none",
        keys=frozenset({"label_weight"}),
    )
}
