"""Reviews: the student's later stages help its earlier ones to meet the teacher's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.feature_shapes import pairs, resize, side
from pipeline.losses.step import Entry, Shapes, Step, full


class ReviewKD(nn.Module):
    """Knowledge review: Σ_i HCL(y_i, f_i^T), y_i from the student's stage i and what its later ones pass on.

    Levels i from the last: the pooled vectors as 1×1 maps, then the pairs of stages. x = BN(conv 1×1(f_i^S)),
    of min(512, the student's pooled width) channels; with p = r_{i+1} resized to x's side and z (N, 2, H, W)
    = sigmoid(conv 1×1([x, p]) + bias), r_i = z_0 x + z_1 p (pooled level: r_i = x), then resized to the
    teacher's side; y_i = BN(conv 3×3(r_i)), zeros around, of the teacher's width. Only z has a bias; resized:
    nearest upwards, averages downwards (theirs: nearest); in training BN uses the batch's statistics.
    HCL(y, f) = Σ_k 2^−k MSE_k / Σ_k 2^−k, MSE_0 the mean of (y − f)², k = 1, 2, … the same of y and f
    average-pooled to 4×4, 2×2, 1×1, of these such as are below f's shorter side. Source: Chen et al. 2021,
    arXiv 2104.09044, and their code, which takes f^T of a stage before its last activation; our taps are what
    the network passes on, after it. Weight 1: the default of their code and of mdistiller (their pairs on
    CIFAR-100 have 0.6 for ResNet-56 → 20, 1 for 110 → 32, 5 to 8 for wide ones), beside cross-entropy at 1;
    ramp: their 20 of 240 epochs.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.pairs = pairs(len(shapes.student), len(shapes.teacher))
        middle = min(512, shapes.student_pooled)
        self.pooled = Fusion(shapes.student_pooled, middle, shapes.teacher_pooled, first=True)
        self.stages = nn.ModuleList(
            Fusion(shapes.student[s][0], middle, shapes.teacher[t][0]) for s, t in self.pairs
        )

    def forward(self, step: Step) -> Tensor:
        target = step.teacher.pooled[..., None, None]
        guess, passed = self.pooled(step.student.pooled[..., None, None], None, (1, 1))
        total = hcl(guess, target)
        for fusion, (s, t) in zip(reversed(self.stages), reversed(self.pairs), strict=True):
            target = step.teacher.stages[t]
            guess, passed = fusion(step.student.stages[s], passed, side(target))
            total = total + hcl(guess, target)
        return total


class Fusion(nn.Module):
    """A level of the review: the guess at the teacher's features, and what it passes on."""

    def __init__(self, source: int, middle: int, target: int, first: bool = False) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(source, middle, 1, bias=False), nn.BatchNorm2d(middle))
        self.gates = None if first else nn.Sequential(nn.Conv2d(2 * middle, 2, 1), nn.Sigmoid())
        self.expand = nn.Sequential(
            nn.Conv2d(middle, target, 3, padding=1, bias=False), nn.BatchNorm2d(target)
        )

    def forward(self, x: Tensor, passed: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        x = self.reduce(x)
        if self.gates is not None and passed is not None:
            passed = resize(passed, side(x))
            gates: Tensor = self.gates(torch.cat([x, passed], dim=1))
            x = gates[:, :1] * x + gates[:, 1:] * passed
        x = resize(x, size)
        return self.expand(x), x


def hcl(student: Tensor, teacher: Tensor) -> Tensor:
    """The hierarchical context loss: mean squares at ever coarser sizes, each of half the weight."""
    student, teacher = full(student), full(teacher)
    total, weight, weights = F.mse_loss(student, teacher), 1.0, 1.0
    for size in (4, 2, 1):
        if size < min(side(teacher)):
            weight /= 2
            weights += weight
            coarse = [F.adaptive_avg_pool2d(x, size) for x in (student, teacher)]
            total = total + weight * F.mse_loss(coarse[0], coarse[1])
    return total / weights


REVIEWS: dict[str, Entry] = {
    "reviewkd": Entry(
        ReviewKD,
        1.0,
        "feature",
        "Chen et al. 2021 (ReviewKD)",
        "two convolutions and a fusion a stage while training",
        ramp=20 / 240,
    ),
}
