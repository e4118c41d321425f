"""Offline distillation: a student learns from labels and from teachers that stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from pipeline.data.batches import Batch
from pipeline.losses import LOSSES, Line, Term, bind_losses, modules_of, shapes
from pipeline.losses.step import Step
from pipeline.models.split_model import Parts
from pipeline.schemes.base import TAUGHT, Entry, Phase, Player, Scheme, Setup
from pipeline.schemes.labels import Labels
from pipeline.schemes.teacher_cache import Replayed
from targets.errors import Refusal


class NoLabels:
    """In the place of labels, for a loss that wants one class an image: says why there are none."""

    why: str

    @classmethod
    def __torch_function__(cls, *_: Any) -> NoReturn:
        raise Refusal(cls.why)

    def __getitem__(self, *_: Any) -> NoReturn:
        self.__torch_function__()


class Unclear(NoLabels):
    why = (
        "distill.mixup, cutmix: a mixed image has two labels, and a loss of the recipe looks at one; drop them,"
        " or that loss"
    )


class NoClasses(NoLabels):
    why = "distill.loss: a loss of the recipe looks at classes, which the task has none of; choose another"


@dataclass
class Guide:
    """A teacher that stays as it is, the terms of the objective bound to it, and its share among several."""

    teacher: Parts
    terms: list[Term]
    share: float
    replayed: Replayed | None = None


class Offline(Scheme):
    """A student and its teachers: ``label_weight`` · cross-entropy + Σ share · weight · loss.

    The shares add up to 1, so several teachers are averaged; for ``kd`` that is the average of their soft
    targets. With ``draw`` each batch has one of them instead, drawn by share (Fukuda et al. 2017).
    """

    def __init__(
        self,
        student: Parts,
        guides: Sequence[Guide],
        labels: Labels,
        draw: bool = False,
    ) -> None:
        adapters = nn.ModuleList(modules_of(guide.terms) for guide in guides)
        self.players = {"student": Player(student.network, adapters)}
        self.student, self.guides, self.draw = student, guides, draw
        self.labels = labels
        self.shares = torch.tensor([guide.share for guide in guides])
        for guide in guides:
            guide.teacher.network.eval().requires_grad_(False)

    @property
    def teachers(self) -> list[Parts]:
        return [guide.teacher for guide in self.guides]

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(("student",), partial(self.losses, progress))]

    def losses(self, progress: float, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        guides = [(guide, guide.share) for guide in self.guides]
        if self.draw:
            guides = [(self.guides[int(torch.multinomial(self.shares, 1, generator=generator))], 1.0)]
        student = self.student(batch.images)
        logits = student.logits.float()
        labels: Any = batch.labels if batch.mixed is None else Unclear()
        if not self.labels.task.of_classes:
            labels = NoClasses()
        indices = batch.indices.to(logits.device, non_blocking=True)
        total = self.labels(student, batch)
        for guide, share in guides:
            networks = (self.student, guide.teacher)
            kept = partial(guide.replayed.answers, batch, guide.teacher) if guide.replayed else None
            step = Step(batch.images, labels, indices, student, *networks, progress, generator, kept)
            for term in guide.terms:
                weight = share * term.weight_at(progress)
                if weight:
                    total = total + weight * term.loss(step)
        return {"student": total}


def offline(setup: Setup) -> Offline:
    """The student learns from the labels and, by the losses, from teachers that stay as they are."""
    recipe, teachers, images = setup.recipe, setup.teachers, len(setup.data.labels)
    shares = recipe.shares or [1.0] * len(teachers)
    if len(shares) != len(teachers):
        raise Refusal(
            f"{setup.where}.shares: {len(shares)} shares for {len(teachers)} teachers; give one for each"
        )
    if teachers:
        check_losses(recipe.losses, setup)
    guides = []
    for number, (teacher, share) in enumerate(zip(teachers, shares, strict=True)):
        both = shapes(setup.like, teacher, setup.data.facts.shape, images)
        terms = bind_losses(recipe.losses, both, f"{setup.where}.loss")
        folder = setup.scratch / f"{setup.where} teacher {number}"
        kept = Replayed(folder, images, both.classes, both.teacher_pooled) if recipe.replay else None
        guides.append(Guide(Parts(teacher, teacher, "teacher"), terms, share / sum(shares), kept))
    student = Parts(setup.student, setup.like, "student")
    return Offline(student, guides, setup.labels, recipe.teachers == "random")


def check_losses(lines: Sequence[Line], setup: Setup) -> None:
    """Raises Refusal for a loss that compares what the task's answers are not."""
    for line in lines:
        if line.name in LOSSES and LOSSES[line.name].kind not in setup.task.losses:
            raise Refusal(
                f"{setup.where}.loss: {line.name} compares the logits of classes, which {setup.task.name} has none"
                " of; choose a loss of features (retort methods)"
            )


OFFLINE = {
    "offline": Entry(
        offline,
        "Hinton et al. 2015, arXiv 1503.02531",
        "a trained teacher is there: the rule",
        "a pass of each teacher a step; with replay, one of each teacher a view",
        teachers="optional",
        keys=TAUGHT,
        any_task=True,
    )
}
