"""The losses on answers as their papers state them, slow and in plain numbers, and steps to try them on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pipeline.losses.step import Step
from pipeline.models.tapped_model import Model
from support import tiny
from support.tiny import CLASSES

Row = Sequence[float]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def soften(logits: Row, temperature: float = 1.0) -> list[float]:
    powers = [math.exp(z / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


def divergence(target: Row, answer: Row) -> float:
    return sum(t * (math.log(t) - math.log(a)) for t, a in zip(target, answer, strict=True))


def first_largest(values: Row) -> int:
    return list(values).index(max(values))


def spread(classes: int, y: int, correct: float) -> list[float]:
    return [correct if c == y else (1 - correct) / (classes - 1) for c in range(classes)]


# What one image adds to the mean, from the student's logits, the teacher's and the label.


def kd(z_s: Row, z_t: Row, y: int, temperature: float = 4.0) -> float:
    """Hinton et al. 2015."""
    return temperature**2 * divergence(soften(z_t, temperature), soften(z_s, temperature))


def hard_target(z_s: Row, z_t: Row, y: int) -> float:
    """Touvron et al. 2021: the cross-entropy with the class that the teacher names."""
    return -math.log(soften(z_s)[first_largest(z_t)])


def logits(z_s: Row, z_t: Row, y: int) -> float:
    """Ba & Caruana 2014, but the mean over the classes."""
    return mean([(s - t) ** 2 for s, t in zip(z_s, z_t, strict=True)])


def dkd(z_s: Row, z_t: Row, y: int, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0) -> float:
    """Zhao et al. 2022: label or not, and which of the others, each with a weight of its own."""
    pairs, others = [], []
    for probabilities in (soften(z_t, temperature), soften(z_s, temperature)):
        rest = [p for c, p in enumerate(probabilities) if c != y]
        pairs.append((probabilities[y], sum(rest)))
        others.append([p / sum(rest) for p in rest])
    return temperature**2 * (alpha * divergence(*pairs) + beta * divergence(*others))


def logit_std(z_s: Row, z_t: Row, y: int, temperature: float = 2.0) -> float:
    """Sun et al. 2024: ``kd`` of the logits' z-scores."""

    def score(z: Row) -> list[float]:
        around = [value - mean(z) for value in z]
        size = max(1e-7, math.sqrt(sum(value**2 for value in around)))  # √(C − 1) · std
        return [value * math.sqrt(len(z) - 1) / size for value in around]

    return kd(score(z_s), score(z_t), y, temperature)


def conditional(z_s: Row, z_t: Row, y: int, temperature: float = 4.0) -> float:
    """Meng et al. 2019: the teacher's answer where it is right, else the label's."""
    return kd(z_s, z_t, y, temperature) if first_largest(z_t) == y else -math.log(soften(z_s)[y])


def ka_shift(z_s: Row, z_t: Row, y: int, temperature: float = 4.0) -> float:
    """Wen et al. 2021: the probabilities of the class named and of the label change places."""
    target, named = soften(z_t, temperature), first_largest(z_t)
    target[y], target[named] = target[named], target[y]
    return temperature**2 * divergence(target, soften(z_s, temperature))


def ka_smooth(z_s: Row, z_t: Row, y: int, correct: float = 0.9, temperature: float = 4.0) -> float:
    """Wen et al. 2021: a smoothed label in place of a wrong answer."""
    target = soften(z_t, temperature) if first_largest(z_t) == y else spread(len(z_t), y, correct)
    return temperature**2 * divergence(target, soften(z_s, temperature))


def tf_kd(z_s: Row, z_t: Row, y: int, correct: float = 0.9, temperature: float = 20.0) -> float:
    """Yuan et al. 2020: a teacher made up, softened as if its probabilities were logits."""
    return divergence(soften(spread(len(z_s), y, correct), temperature), soften(z_s))


# What is not a mean over images, from the logits of all.


def pearson(x: Row, y: Row) -> float:
    x, y = [a - mean(x) for a in x], [b - mean(y) for b in y]
    sizes = [max(1e-8, math.sqrt(sum(a * a for a in vector))) for vector in (x, y)]
    return sum(a * b for a, b in zip(x, y, strict=True)) / (sizes[0] * sizes[1])


def dist(
    ours: list[Row], theirs: list[Row], beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0
) -> float:
    """Huang et al. 2022: Pearson's distance along the classes, and along the images."""
    p_s, p_t = ([soften(z, temperature) for z in answers] for answers in (ours, theirs))
    rows, columns = zip(p_s, p_t, strict=True), zip(zip(*p_s), zip(*p_t), strict=True)  # noqa: B905
    inter, intra = (mean([1 - pearson(s, t) for s, t in vectors]) for vectors in (rows, columns))
    return temperature**2 * (beta * inter + gamma * intra)


def temperatures(
    ours: list[Row], theirs: list[Row], temperature: float = 4.0, beta: float = 1.0, gamma: float = 2.0
) -> list[float]:
    """Wen et al. 2021: lower where the two differ, with the focal loss's weight."""
    weights = []
    for z_s, z_t in zip(ours, theirs, strict=True):
        sizes = [math.sqrt(sum(z * z for z in answer)) for answer in (z_s, z_t)]
        product = sum(s * t for s, t in zip(z_s, z_t, strict=True))
        cosine = product / (sizes[0] * sizes[1]) if all(sizes) else 0.0
        weights.append((1 - cosine) ** gamma)
    return [max(1.0, temperature + beta * (mean(weights) - weight)) for weight in weights]


def dtd(ours: list[Row], theirs: list[Row], **arguments: float) -> float:
    """Wen et al. 2021: ``kd``, each image at its own temperature."""
    each = zip(ours, theirs, temperatures(ours, theirs, **arguments), strict=True)
    return mean([kd(z_s, z_t, 0, t) for z_s, z_t, t in each])


def mixed(step: Step, draws: Any, keep: float = 0.75, middle: float = 0.5, steepness: float = 10.0) -> Tensor:
    """Xu et al. 2020: the more certain the student is of an image, the more of another is mixed in."""
    answers = [soften(z) for z in step.student.logits.tolist()]
    entropy = [-sum(p * math.log(p) for p in answer) for answer in answers]
    count = len(entropy)
    rank = sorted(range(count), key=lambda i: -entropy[i])
    share = torch.rand((), generator=draws).item()
    partners = torch.randperm(count, generator=draws).tolist()
    found = []
    for r in range(math.ceil(keep * count)):
        c = share / (1 + math.exp(-steepness * ((r + 0.5) / count - middle)))
        found.append((1 - c) * step.images[rank[r]] + c * step.images[partners[r]])
    return torch.stack(found)


def unix(step: Step, draws: Any, temperature: float = 4.0, **mixing: float) -> float:
    x = mixed(step, draws, **mixing)
    answers = [network(x).logits.tolist() for network in (step.student_network, step.teacher_network)]
    return mean([kd(z_s, z_t, 0, temperature) for z_s, z_t in zip(*answers, strict=True)])


EACH = {
    "hard-target": hard_target,
    "logits": logits,
    "dkd": dkd,
    "logit-std": logit_std,
    "eskd": kd,
    "conditional": conditional,
    "ka-shift": ka_shift,
    "ka-smooth": ka_smooth,
    "tf-kd": tf_kd,
}
ALL = {"dist": dist, "dtd": dtd}


def slow(name: str, step: Step, **arguments: float) -> float:
    """A loss by its name in the catalogue; what is drawn is drawn as in the step's first call."""
    if name == "unix":
        return unix(step, torch.Generator().manual_seed(0), **arguments)
    ours, theirs = step.student.logits.tolist(), step.teacher.logits.tolist()
    if name in ALL:
        return ALL[name](ours, theirs, **arguments)
    return mean(
        [EACH[name](*row, **arguments) for row in zip(ours, theirs, step.labels.tolist(), strict=True)]
    )


@cache
@torch.no_grad()
def pair(seed: int = 1, sharp: float = 1.0) -> tuple[Model, Model]:
    """Student and teacher in float64; ``sharp`` multiplies their logits."""
    both = tiny.model(tiny.NARROW, seed=seed).double(), tiny.model(tiny.WIDE, seed=seed + 1).double()
    for model in both:
        for parameter in model.network.fc.parameters():  # type: ignore[union-attr]
            parameter *= sharp
    return both


def step_of(student: Model, teacher: Model, count: int = 6, progress: float = 0.5) -> Step:
    """A step in which the teacher is right about every other image, from the first on."""
    step = tiny.step(student, teacher, count, torch.float64, progress)
    return replace(step, labels=(step.teacher.logits.argmax(1) + torch.arange(count) % 2) % CLASSES)


def saying(step: Step, ours: Tensor, theirs: Tensor) -> Step:
    """The step with other logits of both."""
    return replace(tiny.taught(step, logits=theirs), student=step.student._replace(logits=ours))


def plain() -> Step:
    return step_of(*pair(), progress=0.0)


def sharp() -> Step:
    return step_of(*pair(5, 6.0), count=5, progress=1.0)


def in_training() -> Step:
    student, teacher = pair(7, 3.0)
    return step_of(student.train(), teacher, count=4)


def ties() -> Step:
    """Classes that tie, classes that do not vary over the batch, images of one entropy."""
    ours = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.float64).repeat(6, 1)
    theirs = [[2, 2, 0, 1], [0, 3, 3, 3], [1, 1, 1, 1], [0, 0, 2, 2], [2, 0, 2, 0], [5, 1, 1, 5]]
    step = saying(plain(), ours, torch.tensor(theirs, dtype=torch.float64))
    return replace(step, labels=torch.tensor([1, 2, 0, 3, 1, 0]))
