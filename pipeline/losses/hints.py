"""Hints: the student's features, through a learnt layer, are to be the teacher's."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.feature_shapes import Adapter, pairs, pick, resize, unit
from pipeline.losses.step import Entry, Shapes, Step, full


class FitNet(nn.Module):
    """Hints: mean((r(f_s) − f_t)²) at one stage, r a learnt 1×1 convolution with batch-norm and ReLU.

    f is (N, C, H, W). Source: Romero et al. 2015, arXiv 1412.6550; trained jointly in one stage, at the
    middle stage and with weight 100 as Tian et al. 2020 do. ``stage`` counts pairs of stages from 0.
    """

    def __init__(self, shapes: Shapes, *, stage: int = 1) -> None:
        super().__init__()
        both = pairs(len(shapes.student), len(shapes.teacher))
        self.student, self.teacher = both[pick(stage, len(both))]
        source, target = shapes.student[self.student], shapes.teacher[self.teacher]
        self.adapt = nn.Sequential(Adapter(source, target), nn.BatchNorm2d(target[0]), nn.ReLU())

    def forward(self, step: Step) -> Tensor:
        return F.mse_loss(
            full(self.adapt(step.student.stages[self.student])), full(step.teacher.stages[self.teacher])
        )


class MFitNet(nn.Module):
    """Multi-layer hints: Σ_i mean((M_i(F_i^S) − F_i^T)²) over all pairs of stages, M_i learnt.

    F are (N, C, H, W); the mean is over all four. M_i is average pooling to the teacher's side (nearest
    neighbours upwards), then a 1×1 convolution without bias. Stages are paired from the last backwards.
    Source: FitNet's loss (Romero et al. 2015, arXiv 1412.6550) on all stages, as the paper of SRKD (year
    unknown to us) compares with it: SRKD without a reset. Weight 0.1, SRKD's λ, so that the two differ in
    the reset alone. The paper gives no formula; ours: mean squares, and no batch-norm or ReLU after M_i,
    unlike ``fitnet``.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.pairs = pairs(len(shapes.student), len(shapes.teacher))
        self.adapt = nn.ModuleList(Adapter(shapes.student[s], shapes.teacher[t]) for s, t in self.pairs)

    def forward(self, step: Step) -> Tensor:
        total = full(step.student.logits).new_zeros(())
        for (s, t), adapt in zip(self.pairs, self.adapt, strict=True):
            total = total + F.mse_loss(full(adapt(step.student.stages[s])), full(step.teacher.stages[t]))
        return total


class Projection(nn.Module):
    """Knowledge projection: mean over the live routes (i, j) of L_ij = mean((P_ij(F_j^T) − F_i^S)²).

    F are (N, C, H, W), the inner mean over all four; P_ij is average pooling to the student's side (nearest
    neighbours upwards), then a learnt 1×1 convolution without bias. All R routes, from each teacher's stage
    j to each student's stage i, live at first. After a training step at progress p the worst are dropped
    until max(1, ⌈R · (1 − p / settle)⌉) live: from ``settle`` on, one. Worst is the largest running mean r,
    r ← 0.99 r + 0.01 · L_ij / (mean((F_i^S)²) + 1e-6), 0 at first. Source: Zhang, Ning & He 2017, arXiv
    1710.09505 ("Zhi et al." in surveys): projection of the teacher onto the student, joint loss, iterative
    choice of routes. We know the abstract only; ours: all stages as candidates, the plain square, the mean
    over routes (dropping some leaves the weight what it was), the linear schedule, the relative loss for
    choosing (stages differ in scale). Weight 1 is ours; one of 10 can be met by features of 0 alone.
    """

    alive: Tensor
    running: Tensor

    def __init__(self, shapes: Shapes, *, settle: float = 0.5) -> None:
        super().__init__()
        if not 0 < settle <= 1:
            raise ValueError(f"settle is a share of the training, above 0 and at most 1, not {settle}")
        self.settle = settle
        self.routes = [(s, t) for s in range(len(shapes.student)) for t in range(len(shapes.teacher))]
        self.project = nn.ModuleList(Adapter(shapes.teacher[t], shapes.student[s]) for s, t in self.routes)
        self.register_buffer("alive", torch.ones(len(self.routes), dtype=torch.bool))
        self.register_buffer("running", torch.zeros(len(self.routes)))

    def forward(self, step: Step) -> Tensor:
        losses = []
        for i in self.alive.nonzero().flatten().tolist():
            s, t = self.routes[i]
            student = full(step.student.stages[s])
            losses.append(F.mse_loss(full(self.project[i](step.teacher.stages[t])), student))
            if self.training:
                with torch.no_grad():
                    self.running[i].lerp_(losses[-1] / (student.pow(2).mean() + 1e-6), 0.01)
        if self.training:
            self.drop(step.progress)
        return torch.stack(losses).mean()

    def drop(self, progress: float) -> None:
        """The worst routes beyond those that may live on after a share of the training."""
        allowed = max(1, math.ceil(len(self.routes) * (1 - progress / self.settle)))
        excess = max(0, int(self.alive.sum()) - allowed)
        self.alive[self.running.masked_fill(~self.alive, -1.0).topk(excess).indices] = False


class PAD(nn.Module):
    """Prime-aware adaptive distillation: mean((f_t − A(f_s))² / (1e-6 + e^v) + v), v = BN(W f_s), learnt.

    f are the pooled features (N, D); the mean is over images and the teacher's dimensions. v (N, D_t) is
    the log-variance of a Gaussian about the student: images that it cannot follow count less. W has no bias
    (the batch-norm has one); gradient flows through v into the student too. A is the identity where the
    widths are equal, else a learnt linear layer. Before the share ``warmup`` of the training the loss is
    the plain mean((f_t − A(f_s))²). As a negative log-likelihood it may fall below 0 later on. Source:
    Zhang et al. 2020 (ECCV), arXiv 2008.01458. Weight 1, ε = 1e-6, W and batch-norm: as torchdistill's
    reproduction has them; A for unequal widths and a tenth of the training for the warm-up are our choice.
    """

    def __init__(self, shapes: Shapes, *, warmup: float = 0.1) -> None:
        super().__init__()
        student, teacher = shapes.student_pooled, shapes.teacher_pooled
        self.warmup = warmup
        self.adapt = nn.Identity() if student == teacher else nn.Linear(student, teacher)
        self.log_variance = nn.Sequential(nn.Linear(student, teacher, bias=False), nn.BatchNorm1d(teacher))

    def forward(self, step: Step) -> Tensor:
        square = (full(step.teacher.pooled) - full(self.adapt(step.student.pooled))).pow(2)
        if step.progress < self.warmup:
            return square.mean()
        v = full(self.log_variance(step.student.pooled))
        return (square / (1e-6 + v.exp()) + v).mean()


class FEED(nn.Module):
    """Feature-level ensemble: mean(|F_t / ‖F_t‖₂ − T(F_s) / ‖T(F_s)‖₂|) at the last stage, T learnt.

    F are (N, C, H, W), each image's map flattened to C·H·W and divided by its own L2 norm; the mean is over
    images and elements. T, the translator: three 3×3 convolutions (padding 1, with bias; widths C_s → C_t →
    C_t → C_t), each followed by LeakyReLU(0.1), after pooling to the teacher's side (nearest neighbours
    upwards). Source: Park & Kwak 2019, arXiv 1909.10754 (parallel FEED). Every teacher has a translator of
    its own: with several teachers each has its own copy of this loss, and the scheme adds them by share,
    where the paper adds them plainly; for n equal teachers n times the weight is the paper's sum. Ours,
    where we do not know the paper's: the translator's layers, the mean instead of the sum, and weight 500,
    are those of factor transfer's published code (Kim et al. 2018), which the method builds on.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        source, target = shapes.student[-1], shapes.teacher[-1]
        self.size = (target[1], target[2])
        layers: list[nn.Module] = []
        for width in (source[0], target[0], target[0]):
            layers += [nn.Conv2d(width, target[0], 3, padding=1), nn.LeakyReLU(0.1)]
        self.translate = nn.Sequential(*layers)

    def forward(self, step: Step) -> Tensor:
        student = self.translate(resize(step.student.stages[-1], self.size))
        return F.l1_loss(unit(student), unit(step.teacher.stages[-1]))


HINTS = {
    "fitnet": Entry(FitNet, 100.0, "feature", "Romero et al. 2015", "a 1×1 convolution while training"),
    "m-fitnet": Entry(
        MFitNet, 0.1, "feature", "SRKD (stage reset)", "a 1×1 convolution a pair of stages while training"
    ),
    "projection": Entry(
        Projection, 1.0, "feature", "Zhang, Ning & He 2017", "a 1×1 convolution a route while training"
    ),
    "pad": Entry(PAD, 1.0, "feature", "Zhang et al. 2020", "one or two linear layers while training"),
    "feed": Entry(
        FEED, 500.0, "feature", "Park & Kwak 2019", "three 3×3 convolutions a teacher while training"
    ),
}
