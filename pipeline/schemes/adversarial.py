"""Adversarial distillation: a second player learns to tell the student's answers from the teacher's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batches import Batch
from pipeline.losses.step import constant_logits, full
from pipeline.models.split_model import Parts
from pipeline.models.tapped_model import outputs
from pipeline.recipe.schema import Optimiser
from pipeline.schemes.base import Entry, Phase, Player, Scheme, Setup
from pipeline.schemes.requirements import above_zero, one_teacher

WIDTH = 128  # of the discriminator's two hidden layers
# AdamW without weight decay is Adam; 2e-4 and 0.5: Radford et al. 2016, arXiv 1511.06434.
ADAM = Optimiser(optimizer="adamw", lr=2e-4, momentum=0.5, weight_decay=0.0, warmup=0.0)


def discriminator(classes: int) -> nn.Sequential:
    """Logits (N, C) → (N, 1), above 0 where it takes them for the teacher's."""
    hidden = [nn.Linear(classes, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.2)]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, 1))


def taken_for(said: Tensor, teacher: bool) -> Tensor:
    """Cross-entropy of what the discriminator said with who it was."""
    wanted = torch.ones_like(said) if teacher else torch.zeros_like(said)
    return F.binary_cross_entropy_with_logits(said, wanted)


class Adversarial(Scheme):
    """In each step first the discriminator learns, then the student."""

    def __init__(self, setup: Setup, teacher: Parts, weight: float, closeness: float) -> None:
        self.judge = discriminator(len(setup.data.facts.classes))
        self.players = {
            "student": Player(setup.student),
            "discriminator": Player(self.judge, optimiser=ADAM, validated=False),
        }
        self.student, self.teacher, self.labels = setup.student, teacher, setup.labels
        self.weight, self.closeness = weight, closeness

    @property
    def teachers(self) -> list[Parts]:
        return [self.teacher]

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(("discriminator",), self.tell), Phase(("student",), self.imitate)]

    def tell(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        own, target = (constant_logits(one, batch.images) for one in (self.student, self.teacher))
        said = taken_for(full(self.judge(target)), teacher=True)
        return {"discriminator": said + taken_for(full(self.judge(own)), teacher=False)}

    def imitate(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        answers = outputs(self.student(batch.images))
        logits = full(answers.logits)
        labels = self.labels(answers, batch)
        deceived = taken_for(full(self.judge(logits)), teacher=True)
        apart = (logits - constant_logits(self.teacher, batch.images)).abs().mean()
        return {"student": labels + self.weight * deceived + self.closeness * apart}


def adversarial(setup: Setup, *, weight: float = 0.1, closeness: float = 1.0) -> Adversarial:
    """The student learns from the labels, from the teacher's answers, and to deceive a discriminator of both.

    The discriminator D, logits (N, C) → (N, 1), minimises −ln σ(D(z_t)) − ln(1 − σ(D(z_s))), means over the batch, σ
    the logistic function; then the student label_weight · cross-entropy + weight · (−ln σ(D(z_s))) + closeness ·
    mean|z_s − z_t|. D has two hidden layers of 128 and an optimiser of its own: Adam at 2e-4, β₁ = 0.5; it never
    ships. Source: Xu et al. 2018, arXiv 1709.00513, after Wang et al. 2018, whose discriminator looks at features.
    Not checked against the papers: the terms' form; theirs names the class too. Both weights, the widths and the
    optimiser are ours.
    """
    above_zero(setup, "adversarial", weight=weight)
    return Adversarial(setup, one_teacher(setup, "adversarial"), weight, closeness)


ADVERSARIAL = {
    "adversarial": Entry(
        adversarial,
        "Xu et al. 2018, arXiv 1709.00513",
        "no one distance of the two answers fits; the training is long, as both sides must keep pace",
        "a second pass of student and teacher a step",
        teachers="needed",
        keys=frozenset({"label_weight"}),
    )
}
