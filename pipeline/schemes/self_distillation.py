"""Self-distillation: the student learns from its own answers, to other images, to other views, or of earlier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.data.augmentation import augmented, draw
from pipeline.data.batches import Batch, fetch, mean_colour, to_unit
from pipeline.losses.response import divergence, softened
from pipeline.losses.step import full
from pipeline.models.tapped_model import Outputs, outputs
from pipeline.schemes.base import Entry, Phase, Player, Scheme, Setup
from pipeline.schemes.past_state import PastState
from pipeline.schemes.requirements import above_zero, one_label, shares
from targets.errors import Refusal

Term = Callable[[Outputs, Batch, torch.Generator], Tensor]


class OwnAnswers(Scheme):
    """The student alone: label_weight · cross-entropy + weight · a term of its answers to the batch."""

    def __init__(self, setup: Setup, weight: float, term: Term) -> None:
        self.players, self.labels = {"student": Player(setup.student)}, setup.labels
        self.weight, self.term = weight, term

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(("student",), self.losses)]

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        answers = outputs(self.players["student"].network(batch.images))
        labels = self.labels(answers, batch)
        return {"student": labels + self.weight * self.term(answers, batch, generator)}


def same_class(answers: Outputs, batch: Batch, generator: torch.Generator, *, temperature: float) -> Tensor:
    """T² · KL of each image's answer from that to another of its class, a constant; mean over who has one."""
    logits, count = full(answers.logits) / temperature, len(batch.labels)
    own = torch.eye(count, dtype=torch.bool, device=logits.device)
    partners = (batch.labels[:, None] == batch.labels) & ~own
    # The largest of random numbers of its partners: each is as likely, and the processor waits for no GPU.
    chances = torch.rand(count, count, generator=generator).to(logits.device)
    chosen = chances.masked_fill(~partners, -1).argmax(1)
    apart = divergence(logits, logits.detach()[chosen])
    paired = partners.any(1)
    return temperature**2 * (apart * paired).sum() / paired.sum().clamp(min=1)


def class_wise(setup: Setup, *, weight: float = 1.0, temperature: float = 4.0) -> OwnAnswers:
    """The student learns from the labels and from its own answers to other images of the same class.

    label_weight · cross-entropy + weight · T² · KL(softmax(z' / T) ‖ softmax(z / T)), summed over classes; z' the
    logits (N, C) of another image of the class in the batch, drawn anew each step, a constant. Mean over the images
    that have such another. Source: Yun et al. 2020 (CS-KD), arXiv 2003.13964; T = 4 and weight 1 are the published
    code's on CIFAR-100, 3 its weight on fine-grained sets. Their batches are drawn in pairs of a class; these are
    not, so a batch should be several times as large as there are classes. Not checked: the factor T².
    """
    above_zero(setup, "cs-kd", temperature=temperature)
    one_label(setup, "cs-kd")
    return OwnAnswers(setup, weight, partial(same_class, temperature=temperature))


def ensemble(
    answers: Outputs, batch: Batch, generator: torch.Generator, *, temperature: float, omega: float
) -> Tensor:
    """T² · KL of each image's answer from what the batch says of it."""
    logits = full(answers.logits) / temperature
    with torch.no_grad():
        features = F.normalize(full(answers.pooled), dim=1)
        one = torch.eye(len(features), dtype=features.dtype, device=features.device)
        alike = full(features @ features.T).masked_fill(one.bool(), -torch.inf).softmax(1)
        target = (1 - omega) * torch.linalg.solve(one - omega * alike, logits.softmax(1))
    apart = F.kl_div(logits.log_softmax(1), target, reduction="none").sum(1)
    return temperature**2 * apart.mean()


def bake(setup: Setup, *, weight: float = 1.0, temperature: float = 4.0, omega: float = 0.5) -> OwnAnswers:
    """The student learns from the labels and from its answers to the images of the batch that look alike to it.

    label_weight · cross-entropy + weight · T² · KL(Q ‖ P), summed over classes, mean over the batch; P =
    softmax(z / T) of logits z (N, C), Q = (1 − ω) · (I − ω A)⁻¹ P a constant, the rows of A the softmax of
    f̂_i · f̂_j over j ≠ i, f̂ the pooled features (N, D) at unit length. Source: Ge et al. 2021 (BAKE), arXiv
    2104.13298; T = 4, ω = 0.5, weight 1 and the formula as in the published code. Theirs puts three more images of
    each image's class into the batch; here a batch is as the loop draws it, so few classes and large batches suit it.
    """
    above_zero(setup, "bake", temperature=temperature)
    shares(setup, "bake", omega=omega)
    return OwnAnswers(setup, weight, partial(ensemble, temperature=temperature, omega=omega))


class TwoViews(OwnAnswers):
    """The student alone, on batches that show each image in two views: (2N, …), the second views behind the first."""

    def __init__(self, setup: Setup, weight: float, term: Term) -> None:
        super().__init__(setup, weight, term)
        self.data, self.recipe = setup.data, setup.recipe

    def source(self, images: Iterator[Batch]) -> Iterator[Batch]:
        colour = mean_colour(self.data.facts)
        for batch in images:
            device, count = batch.images.device, len(batch.labels)
            drawn = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
            views = draw(count, self.data.facts, self.recipe, drawn).to(device)
            pixels = fetch(self.data.images, batch.indices.numpy()).to(device)
            second = to_unit(augmented(pixels, views, self.recipe.cutout, colour.to(device)))
            yield replace(
                batch,
                images=torch.cat((batch.images, second)),
                labels=batch.labels.repeat(2),
                indices=batch.indices.repeat(2),
            )


def agreement(
    answers: Outputs, batch: Batch, generator: torch.Generator, *, temperature: float, mmd: float
) -> Tensor:
    """T² · KL of the answers to two views in both directions, and the squared distance of the mean features."""
    one, two = full(answers.logits).chunk(2)
    first, second = full(answers.pooled).chunk(2)
    apart = softened(one, two.detach(), temperature) + softened(two, one.detach(), temperature)
    return apart + mmd * (first.mean(0) - second.mean(0)).square().sum()


def ddgsd(setup: Setup, *, weight: float = 1.0, temperature: float = 3.0, mmd: float = 0.005) -> TwoViews:
    """The student learns from the labels and from its own answers to another view of the same image.

    label_weight · cross-entropy, mean over both views, + weight · (T² · KL(p_b ‖ p_a) + T² · KL(p_a ‖ p_b) + μ ·
    ‖mean f_a − mean f_b‖²), p = softmax(z / T) of the logits z (N, C) of view a or b, what is learnt from a constant;
    summed over classes, means over the batch; f the pooled features (N, D), μ = ``mmd``. The second view is drawn as
    the first is. Source: Xu & Liu 2019 (DDGSD), AAAI. Not checked against the paper: T, μ, the weight, and that it
    adds up the views' cross-entropies, of which here is the mean.
    """
    above_zero(setup, "ddgsd", temperature=temperature)
    one_label(setup, "ddgsd")
    return TwoViews(setup, weight, partial(agreement, temperature=temperature, mmd=mmd))


class Snapshots(Scheme):
    """The student, and itself as it was when the last cycle ended."""

    def __init__(self, setup: Setup, cycles: int, weight: float, temperature: float) -> None:
        self.players, self.labels, self.cycles = {"student": Player(setup.student)}, setup.labels, cycles
        self.weight, self.temperature = weight, temperature
        self.past, self.cycle = PastState(setup.student), 0

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(("student",), partial(self.losses, int(progress * self.cycles)))]

    def losses(self, cycle: int, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        if cycle > self.cycle:
            self.past.take()
            self.cycle = cycle
        answers = outputs(self.players["student"].network(batch.images))
        total = self.labels(answers, batch)
        if cycle:
            target = self.past.logits(batch.images)
            total = total + self.weight * softened(full(answers.logits), target, self.temperature)
        return {"student": total}

    def state_dict(self) -> dict[str, Any]:
        return {"cycle": self.cycle, "past": self.past.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.cycle = state["cycle"]
        self.past.load_state_dict(state["past"])


def snapshot(setup: Setup, *, cycles: int = 4, weight: float = 1.0, temperature: float = 2.0) -> Snapshots:
    """The student learns from the labels and from itself as it was at the end of the last cycle.

    The training is cut into ``cycles`` equal parts. In the first the labels alone teach; in each later one:
    label_weight · cross-entropy + weight · T² · KL(softmax(z' / T) ‖ softmax(z / T)), summed over classes, mean over
    the batch, z' the logits (N, C) of the student as the part before it left it. Source: Yang et al. 2019, arXiv
    1812.00123. Theirs restarts the learning rate in each cycle and softens the teacher's answers alone; here the
    learning rate goes as the section says, and both are softened. Not checked against the paper: T and the weights.
    """
    above_zero(setup, "snapshot", temperature=temperature)
    if cycles < 2:
        raise Refusal(f"{setup.where}.scheme: snapshot.cycles must be at least 2, not {cycles}")
    return Snapshots(setup, cycles, weight, temperature)


LABELS = frozenset({"label_weight"})
SELF = {
    "snapshot": Entry(
        snapshot,
        "Yang et al. 2019, arXiv 1812.00123",
        "there is no teacher, and no time to train a second network",
        "a pass of the student without gradient, after the first cycle",
        teachers="none",
        keys=LABELS,
    ),
    "ddgsd": Entry(
        ddgsd,
        "Xu & Liu 2019, DDGSD, AAAI",
        "there is no teacher, and the views of an image differ much: strong augmentation",
        "every image is seen twice",
        teachers="none",
        keys=LABELS,
    ),
    "cs-kd": Entry(
        class_wise,
        "Yun et al. 2020, arXiv 2003.13964",
        "there is no teacher, and the student is too sure of training images: few, alike classes",
        "none",
        teachers="none",
        keys=LABELS,
    ),
    "bake": Entry(
        bake,
        "Ge et al. 2021, arXiv 2104.13298",
        "there is no teacher, and a batch holds several images of most classes",
        "a linear system of the batch's size",
        teachers="none",
        keys=LABELS,
    ),
}
