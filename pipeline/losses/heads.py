"""Heads: auxiliary classifiers on the stages tell what of the features the task needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.feature_shapes import pairs
from pipeline.losses.step import Entry, Shapes, Step, full


class TOFD(nn.Module):
    """Task-oriented features: Σ_k [CE(softmax(z_k^t / T), softmax(z_k^s / T)) + α ‖W_k f_k^s − f_k^t‖
    + β (‖W_k W_kᵀ − I‖ + ‖W_kᵀ W_k − I‖)] + Σ_{k<K} [CE(y, softmax(z_k^s)) + CE(y, softmax(z_k^t))].

    k < K: all pairs of stages (from the last) but the last; z_k = V_k f_k + b_k, f_k (N, D) the stage after
    one block for each later stage of its network, to that one's width, then global average pooling. A block,
    all learnt: twice (depthwise 3×3 padded by 1, 1×1, BatchNorm, ReLU), at stride 2 and the old width, then
    at 1 to the new; no biases. K: the networks' own pooled features and logits, whose CE with y is left to
    the recipe (``label_weight = 1``). CE(p, q) = −Σ p ln q, mean over the batch; ‖·‖ = √Σ of all squares, over the
    batch too, so it grows with √N; W_k learnt (D_t, D_s); T = 1 + (temperature − 1) · progress; f_k^t, z_k^t
    are constants outside their own CE. Source: Zhang et al. 2020 (NeurIPS); weight 1, α, β, no T², blocks,
    batch 128 and T = 1 + 3 (e + 1) / 250 in epoch e of 250: their code. Ours: as the teacher is given, its
    auxiliary classifiers learn beside the student's.
    """

    def __init__(
        self, shapes: Shapes, *, alpha: float = 0.05, beta: float = 0.03, temperature: float = 4.0
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.temperature = alpha, beta, temperature
        self.pairs = pairs(len(shapes.student), len(shapes.teacher))[:-1]
        ours, theirs = [c for c, _, _ in shapes.student], [c for c, _, _ in shapes.teacher]
        self.student = nn.ModuleList(Auxiliary(ours[s:], shapes.classes) for s, _ in self.pairs)
        self.teacher = nn.ModuleList(Auxiliary(theirs[t:], shapes.classes) for _, t in self.pairs)
        widths = [(ours[-1], theirs[-1])] * len(self.pairs) + [(shapes.student_pooled, shapes.teacher_pooled)]
        self.resize = nn.ModuleList(nn.Linear(source, target, bias=False) for source, target in widths)

    def forward(self, step: Step) -> Tensor:
        student = [aux(step.student.stages[s]) for aux, (s, _) in zip(self.student, self.pairs, strict=True)]
        teacher = [aux(step.teacher.stages[t]) for aux, (_, t) in zip(self.teacher, self.pairs, strict=True)]
        total = full(step.student.logits).new_zeros(())
        for _, logits in student + teacher:
            total = total + F.cross_entropy(full(logits), step.labels)
        student.append((step.student.pooled, step.student.logits))
        teacher.append((step.teacher.pooled, step.teacher.logits))
        temperature = 1 + (self.temperature - 1) * step.progress
        for ours, theirs, resize in zip(student, teacher, self.resize, strict=True):
            soft = F.softmax(full(theirs[1].detach()) / temperature, dim=1)
            apart = full(resize(ours[0])) - full(theirs[0].detach())
            total = total + F.cross_entropy(full(ours[1]) / temperature, soft)
            # This norm's gradient at 0 is 0 in torch.
            total = total + self.alpha * torch.linalg.vector_norm(apart)
            total = total + self.beta * orthogonal_penalty(cast(nn.Linear, resize).weight)
        return total


class Auxiliary(nn.Module):
    """A stage → its task-oriented features and what they answer."""

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        blocks = (separable(inputs, outputs) for inputs, outputs in pairwise(widths))
        self.transform = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classify = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features: Tensor = self.transform(x)
        return features, self.classify(features)


def separable(inputs: int, outputs: int) -> nn.Sequential:
    """Two depthwise convolutions with their 1×1; the first halves the side, the second changes the width."""
    layers: list[nn.Module] = []
    for stride, width in ((2, inputs), (1, outputs)):
        layers += [
            nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False),
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def orthogonal_penalty(w: Tensor) -> Tensor:
    """How far a matrix is from orthogonal: ‖W Wᵀ − I‖ + ‖Wᵀ W − I‖, Frobenius norms."""
    with torch.autocast(w.device.type, enabled=False):
        rows, columns = (x - torch.eye(len(x)).to(x) for x in (w @ w.T, w.T @ w))
    return torch.linalg.vector_norm(rows) + torch.linalg.vector_norm(columns)  # type: ignore[no-any-return]


HEADS: dict[str, Entry] = {
    "tofd": Entry(
        TOFD,
        1.0,
        "feature",
        "Zhang et al. 2020",
        "auxiliary classifiers on both networks and linear layers while training",
    ),
}
