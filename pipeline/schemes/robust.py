"""Robust distillation: the student learns to answer changed images as the teacher answers the unchanged ones.

The change is sought on the student itself: within a small bound in each pixel, one that it answers wrongly.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batches import Batch
from pipeline.losses.response import divergence, softened
from pipeline.losses.step import constant_logits, full
from pipeline.models.split_model import Parts
from pipeline.models.tapped_model import outputs
from pipeline.schemes.base import Entry, Phase, Player, Scheme, Setup, held
from pipeline.schemes.requirements import above_zero, one_label, one_teacher
from targets.errors import Refusal


@dataclass(frozen=True)
class Attack:
    """Projected gradient ascent from a random start. Source: Madry et al. 2018, arXiv 1706.06083."""

    reach: float  # the most that a pixel may change, of 0..1
    stride: float  # of a step
    steps: int

    def __call__(
        self,
        network: nn.Module,
        images: Tensor,
        loss: Callable[[Tensor], Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """Images (N, C, H, W) in 0..1 within reach of the given ones, where ``loss`` of the logits is large.

        The network evaluates meanwhile; it is left as it was.
        """
        start = 2 * torch.rand(images.shape, generator=generator) - 1
        found = (images + self.reach * start.to(images)).clamp(0, 1)
        training = network.training
        network.eval()
        with held([network]):
            for _ in range(self.steps):
                found.requires_grad_()
                (slope,) = torch.autograd.grad(loss(full(outputs(network(found)).logits)), found)
                found = found.detach() + self.stride * slope.sign()
                found = found.clamp(images - self.reach, images + self.reach).clamp(0, 1)
        network.train(training)
        return found


class Robust(Scheme):
    """One student, one teacher, and an attack on the student in each step."""

    def __init__(self, setup: Setup, teacher: Parts, attack: Attack) -> None:
        self.players, self.teacher, self.labels = {"student": Player(setup.student)}, teacher, setup.labels
        self.attack = attack

    @property
    def teachers(self) -> list[Parts]:
        return [self.teacher]

    @property
    def student(self) -> nn.Module:
        return self.players["student"].network

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(("student",), self.losses)]

    @abstractmethod
    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The student's, on the images and on the changed ones."""


class Ard(Robust):
    """Labels for the images as they are, the teacher's answer to them for the changed ones."""

    def __init__(
        self, setup: Setup, teacher: Parts, attack: Attack, weight: float, temperature: float
    ) -> None:
        super().__init__(setup, teacher, attack)
        self.weight, self.temperature = weight, temperature

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        wrong = partial(F.cross_entropy, target=batch.labels)
        changed = self.attack(self.student, batch.images, wrong, generator)
        answer, target = full(self.student(changed)[0]), constant_logits(self.teacher, batch.images)
        total = self.weight * softened(answer, target, self.temperature)
        if self.labels.weight:
            plain = outputs(self.student(batch.images))
            total = total + self.labels(plain, batch)
        return {"student": total}


class Rslad(Robust):
    """The teacher's answer to an image, for the image and for the changed one; no labels."""

    def __init__(self, setup: Setup, teacher: Parts, attack: Attack, share: float) -> None:
        super().__init__(setup, teacher, attack)
        self.share = share

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        target = constant_logits(self.teacher, batch.images)

        def wrong(logits: Tensor) -> Tensor:
            return divergence(logits, target).mean()

        changed = self.attack(self.student, batch.images, wrong, generator)
        on_changed = wrong(full(outputs(self.student(changed)).logits))
        on_images = wrong(full(outputs(self.student(batch.images)).logits))
        return {"student": self.share * on_changed + (1 - self.share) * on_images}


def ard(
    setup: Setup,
    *,
    weight: float = 1.0,
    temperature: float = 30.0,
    reach: float = 8 / 255,
    stride: float = 2 / 255,
    steps: int = 10,
) -> Ard:
    """The student learns to answer attacked images as the teacher answers the images; and the labels.

    label_weight · cross-entropy of the images x + weight · T² · KL(softmax(z_t(x) / T) ‖ softmax(z_s(x') / T)),
    summed over classes, mean over the batch, logits z (N, C); x' is the image within ``reach`` of x in each pixel
    that ``steps`` steps of ``stride`` on the student's cross-entropy find. Source: Goldblum et al. 2020 (ARD), arXiv
    1905.09747; the form and 8/255, 2/255 and 10 steps are the published code's. Its weights are 1 − α and α, its
    divergence is a mean over classes too, and it attacks in training mode, where here the student evaluates. Not
    checked against the paper: T = 30, and α = 1 (label_weight = 0).
    """
    above_zero(setup, "ard", temperature=temperature, reach=reach, stride=stride, steps=steps)
    one_label(setup, "ard")
    return Ard(setup, one_teacher(setup, "ard"), Attack(reach, stride, steps), weight, temperature)


def rslad(
    setup: Setup,
    *,
    share: float = 5 / 6,
    reach: float = 8 / 255,
    stride: float = 2 / 255,
    steps: int = 10,
) -> Rslad:
    """The student learns to answer images, attacked or not, as a robust teacher answers them; no labels.

    share · KL(p_t(x) ‖ p_s(x')) + (1 − share) · KL(p_t(x) ‖ p_s(x)), p = softmax of logits (N, C), summed over
    classes, mean over the batch; x' is the image within ``reach`` of x in each pixel that ``steps`` steps of
    ``stride`` on the first of these divergences find. Source: Zi et al. 2021 (RSLAD), arXiv 2108.07969; 5/6, 8/255,
    2/255 and 10 steps are the published code's, whose divergence is a mean over classes too, and which starts from
    noise of deviation 0.001 where here any start within reach is as likely.
    """
    above_zero(setup, "rslad", reach=reach, stride=stride, steps=steps)
    if not 0 <= share <= 1:
        raise Refusal(f"{setup.where}.scheme: rslad.share must be in 0..1, not {share:g}")
    return Rslad(setup, one_teacher(setup, "rslad"), Attack(reach, stride, steps), share)


COST = "a pass of the student, forth and back, for each step of the attack; one more for the changed images"
ROBUST = {
    "ard": Entry(
        ard,
        "Goldblum et al. 2020, arXiv 1905.09747",
        "somebody may change the images to deceive the student; some accuracy is the price",
        COST,
        teachers="needed",
        keys=frozenset({"label_weight"}),
    ),
    "rslad": Entry(
        rslad,
        "Zi et al. 2021, arXiv 2108.07969",
        "the same, and the teacher was itself trained against such changes",
        COST,
        teachers="needed",
        keys=frozenset(),
    ),
}
