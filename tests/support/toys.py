"""Schemes for the tests of the contract, in float64: two players over one graph, and a generator beside a student."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.compute import distributed
from pipeline.data.batches import Batch
from pipeline.models.tapped_model import Model
from pipeline.recipe.schema import Optimiser
from pipeline.schemes.base import Phase, Player, Scheme, held
from support import tiny

NOISE, BATCH, EVERY = 5, 8, 2
PEER = Optimiser(
    optimizer="adamw", lr=0.01, weight_decay=0.1, schedule="step", milestones=(0.5,), warmup=0.0, ema=0.5
)
# AdamW without weight decay is Adam; the step schedule without milestones is a constant rate.
ADAM = Optimiser(
    optimizer="adamw", lr=0.02, momentum=0.5, weight_decay=0.0, schedule="step", milestones=(), warmup=0.0
)


def classifier(seed: int) -> Model:
    return tiny.model(seed=seed).double()


class Mutual(Scheme):
    """Two networks that learn from the labels and from each other; ``constant``: the other's answer is a constant."""

    def __init__(self, constant: bool = True) -> None:
        self.players = {"student": Player(classifier(1)), "peer": Player(classifier(2), optimiser=PEER)}
        self.constant = constant

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(("student", "peer"), self.losses)]

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        student, peer = (player.network(batch.images)[0] for player in self.players.values())
        pairs = {"student": (student, peer), "peer": (peer, student)}
        return {name: self.loss(own, other, batch.labels) for name, (own, other) in pairs.items()}

    def loss(self, own: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        target = (other.detach() if self.constant else other).log_softmax(1)
        divergence = F.kl_div(own.log_softmax(1), target, reduction="batchmean", log_target=True)
        return F.cross_entropy(own, labels) + divergence


class Generated(Scheme):
    """No images: a generator seeks where student and teacher differ; the student imitates the teacher there.

    The student also learns from the batch before, which is the scheme's own state.
    """

    def __init__(self) -> None:
        torch.manual_seed(3)
        image = (3, tiny.SIDE, tiny.SIDE)
        layers = [nn.Linear(NOISE, 3 * tiny.SIDE**2), nn.Unflatten(1, image), nn.BatchNorm2d(3), nn.Sigmoid()]
        self.generator, self.student = nn.Sequential(*layers).double(), classifier(1)
        self.teacher = tiny.parts(classifier(2).requires_grad_(False))
        generator = Player(self.generator, optimiser=ADAM, every=EVERY, validated=False)
        self.players = {"student": Player(self.student), "generator": generator}
        self.before = torch.zeros(BATCH, *image, dtype=torch.float64)

    @property
    def teachers(self) -> list[Any]:
        return [self.teacher]

    def source(self, images: Iterator[Batch]) -> Iterator[Batch]:
        for _ in itertools.count():
            with torch.no_grad(), held([self.generator]):
                made = self.generator(torch.randn(BATCH, NOISE, dtype=torch.float64))
            yield Batch(made, self.teacher(made).logits.argmax(1), torch.arange(BATCH))

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(("generator",), self.seek), Phase(("student",), partial(self.imitate, progress))]

    def apart(self, images: Tensor) -> Tensor:
        return (self.student(images)[0] - self.teacher(images).logits).abs().mean()

    def seek(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        noise = torch.randn(BATCH, NOISE, generator=generator, dtype=torch.float64)
        return {"generator": -self.apart(self.generator(noise))}

    def imitate(self, progress: float, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        losses = {"student": self.apart(batch.images), "before": progress * self.apart(self.before)}
        # Rank 0's batch on all ranks: a scheme's state is equal on all of them.
        together = distributed.ranks() > 1
        self.before = distributed.all_gather(batch.images.contiguous())[:BATCH] if together else batch.images
        return losses

    def state_dict(self) -> dict[str, Any]:
        return {"before": self.before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.before = state["before"]


SCHEMES: dict[str, Callable[[], Scheme]] = {
    "mutual": Mutual,
    "one graph": partial(Mutual, constant=False),
    "generated": Generated,
}
