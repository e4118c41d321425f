"""Online distillation beside mutual learning: the players make one target together, or learn from old copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.data.batches import Batch
from pipeline.losses.response import softened
from pipeline.losses.step import full
from pipeline.models.tapped_model import outputs
from pipeline.schemes.base import Entry, Phase, Player, Scheme, Setup
from pipeline.schemes.past_state import PastState
from pipeline.schemes.requirements import above_zero, one_label, shares, with_peers
from targets.errors import unknown


def best_answer(logits: Tensor, labels: Tensor) -> Tensor:
    """Of the players' logits (K, N, C), for each image those of least cross-entropy with its label: (N, C)."""
    loss = torch.stack([F.cross_entropy(own, labels, reduction="none") for own in logits])
    return logits[loss.argmin(0), torch.arange(len(labels), device=labels.device)]


def least_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Of the players' logits (K, N, C), less that of the label, the least for each class: (N, C).

    The label's own is 0, so its probability is at least what any player gives it.
    """
    own = labels[None, :, None].expand(len(logits), -1, 1)
    return (logits - logits.gather(2, own)).amin(0)


def targets() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """How a target is made, by its name. No table: a stage's key follows of a table only what a recipe names."""
    return {"naive": best_answer, "min-logit": least_logits}


class Collaborative(Scheme):
    """The players learn from the labels and from one target that is made of all their answers."""

    def __init__(
        self, setup: Setup, players: dict[str, Player], target: str, weight: float, temperature: float
    ) -> None:
        self.players, self.labels, self.target = players, setup.labels, targets()[target]
        self.weight, self.temperature = weight, temperature

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(tuple(self.players), self.losses)]

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        answers = {name: outputs(player.network(batch.images)) for name, player in self.players.items()}
        logits = {name: full(answer.logits) for name, answer in answers.items()}
        target = self.target(torch.stack([own.detach() for own in logits.values()]), batch.labels)
        losses = {}
        for name, own in logits.items():
            labels = self.labels(answers[name], batch)
            losses[name] = labels + self.weight * softened(own, target, self.temperature)
        return losses


def kdcl(
    setup: Setup,
    *,
    peers: Sequence[str] = ("student",),
    target: str = "min-logit",
    weight: float = 1.0,
    temperature: float = 2.0,
) -> Collaborative:
    """The student and its peers learn from the labels and from one target made of all their answers.

    Of each player k: label_weight · cross-entropy + weight · T² · KL(softmax(z / T) ‖ softmax(z_k / T)), summed over
    classes, mean over the batch; z a constant, logits (N, C). ``target`` "naive": z is the answer of least
    cross-entropy, for each image. "min-logit": z_c = min_k (z_k,c − z_k,y), y the label. Source: Guo et al. 2020
    (KDCL), T = 2 and weight 1. Not checked against the paper: these, and that "naive" chooses for each image. Theirs
    shows each player a view of its own; here all see the same.
    """
    if target not in targets():
        raise unknown("target of kdcl", target, targets(), f"{setup.where}.scheme")
    above_zero(setup, "kdcl", temperature=temperature)
    one_label(setup, "kdcl")
    return Collaborative(setup, with_peers(setup, "kdcl", peers), target, weight, temperature)


class Codistillation(Scheme):
    """The players learn from the labels and from copies of each other that are taken every few steps."""

    def __init__(
        self,
        setup: Setup,
        players: dict[str, Player],
        every: int,
        weight: float,
        temperature: float,
        burn_in: float,
    ) -> None:
        self.players, self.labels, self.every = players, setup.labels, every
        self.weight, self.temperature, self.burn_in = weight, temperature, burn_in
        self.copies = {name: PastState(player.network) for name, player in players.items()}
        self.number = 0  # of the step that comes next

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(tuple(self.players), partial(self.losses, progress))]

    def losses(self, progress: float, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        if self.number % self.every == 0:
            for past in self.copies.values():
                past.take()
        self.number += 1
        answers = {name: outputs(player.network(batch.images)) for name, player in self.players.items()}
        losses = {name: self.labels(answer, batch) for name, answer in answers.items()}
        if progress >= self.burn_in:
            said = {name: past.logits(batch.images) for name, past in self.copies.items()}
            for name, answer in answers.items():
                target = self.mean([logits for peer, logits in said.items() if peer != name])
                losses[name] = losses[name] + self.weight * softened(
                    full(answer.logits), target, self.temperature
                )
        return losses

    def mean(self, logits: list[Tensor]) -> Tensor:
        """Logits whose softmax over T is the mean of the others' probabilities."""
        shares = torch.stack([own / self.temperature for own in logits]).log_softmax(2)
        return self.temperature * shares.logsumexp(0)

    def state_dict(self) -> dict[str, Any]:
        copies = {name: past.state_dict() for name, past in self.copies.items()}
        return {"number": self.number, "copies": copies}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.number = state["number"]
        for name, past in self.copies.items():
            past.load_state_dict(state["copies"][name])


def codistillation(
    setup: Setup,
    *,
    peers: Sequence[str] = ("student",),
    every: int = 50,
    weight: float = 1.0,
    temperature: float = 1.0,
    burn_in: float = 0.1,
) -> Codistillation:
    """The student and its peers learn from the labels and from older copies of each other.

    Of each player k of K: label_weight · cross-entropy + weight · T² · KL(q_k ‖ softmax(z_k / T)), summed over
    classes, mean over the batch; q_k = 1 / (K − 1) · Σ_{l ≠ k} softmax(z'_l / T), z' the logits (N, C) of the
    copies. A copy is taken of each player every ``every`` steps, answers in evaluation mode, and is kept with the
    training; before a share ``burn_in`` of the training only the labels teach. Source: Anil et al. 2018, arXiv
    1804.03235. Not checked against the paper: the divergence and its weight 1. ``every`` and ``burn_in`` are ours.
    Their players run on machines of their own and see images of their own; here all see the same batch.
    """
    above_zero(setup, "codistillation", temperature=temperature, every=every)
    shares(setup, "codistillation", burn_in=burn_in)
    players = with_peers(setup, "codistillation", peers)
    return Codistillation(setup, players, every, weight, temperature, burn_in)


ONLINE = {
    "kdcl": Entry(
        kdcl,
        "Guo et al. 2020, KDCL, CVPR",
        "as mutual, and the players differ much in how good they are",
        "each peer is trained beside the student",
        teachers="none",
        keys=frozenset({"label_weight"}),
    ),
    "codistillation": Entry(
        codistillation,
        "Anil et al. 2018, arXiv 1804.03235",
        "as mutual, and the players agree too soon: a copy lags behind",
        "each peer is trained beside the student, and a further pass of all",
        teachers="none",
        keys=frozenset({"label_weight"}),
    ),
}
