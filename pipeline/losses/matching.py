"""Matching: the teacher's channels are assigned to the student's."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.feature_shapes import pairs, resize, side
from pipeline.losses.step import Entry, Shapes, Step, full


class MGD(nn.Module):
    """Matching guided distillation: Σ_i 2^−(n−1−i) · 1/N Σ_bchw [s > t or t > 0] (s − t)², pairs i = 0 … n−1.

    s = BN(f_s), scale and shift learnt. t_c = max(v_c, m_c): v_c the value of largest magnitude, place by
    place, of the G = max(1, ⌊C_t/C_s⌋) channels of f_t matched to c; m_c the mean of their margins, a margin
    being the batch's mean of a channel's negative values, 0 without. The match gives each c its G channels,
    none twice, at the least sum of costs 2 − 2 cos(f_s,c, f_t,c') over flat maps, a mean over images (cos is
    0 for a zero map), summed since the last match; it is solved in steps 0, ``period``, 2·``period`` …, that
    batch included. The larger map is first pooled to the smaller. Source: Yue, Deng & Zhou 2020, arXiv
    2008.09958, and their code; of their reductions, absolute max pooling. Weight 0.001: Heo et al. 2019,
    whose sum this is, on CIFAR (Yue et al.: 0.0001 at 224 pixels). They match each epoch or two in a pass of
    its own; 400 steps are an epoch of CIFAR. Ours: margins from the batch, not the teacher's batch-norm (taps
    lie after the activation, a ReLU's are 0); beyond a multiple of C_s the teacher's worst-fitting channels
    are left out (theirs: the last); if C_t < C_s, the student's worst-fitting ones are not taught.
    """

    count: Tensor

    def __init__(self, shapes: Shapes, *, period: int = 400) -> None:
        super().__init__()
        if period < 1:
            raise ValueError(f"period is {period}, but the match is solved every 1 or more steps")
        self.period = period
        self.pairs = pairs(len(shapes.student), len(shapes.teacher))
        self.matches = nn.ModuleList(Match(shapes.student[s][0], shapes.teacher[t][0]) for s, t in self.pairs)
        self.register_buffer("count", torch.tensor(0))

    def forward(self, step: Step) -> Tensor:
        due = int(self.count) % self.period == 0
        self.count += 1
        total = full(step.student.logits).new_zeros(())
        for match, (s, t) in zip(self.matches, self.pairs, strict=True):
            student, teacher = full(step.student.stages[s]), full(step.teacher.stages[t])
            size = min(side(student), side(teacher))
            with torch.autocast(student.device.type, enabled=False):
                # Each pair halves what the pairs before it weigh, so the last has weight 1.
                total = total / 2 + match(resize(student, size), resize(teacher, size), due)
        return total


class Match(nn.Module):
    """A pair of stages: which of the teacher's channels (G, K) are matched to which of the student's (K,)."""

    cost: Tensor
    taught: Tensor
    teachers: Tensor

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(student)
        count = min(student, teacher)
        self.register_buffer("cost", torch.zeros(student, teacher))
        self.register_buffer("taught", torch.arange(count))
        self.register_buffer("teachers", torch.zeros(max(1, teacher // student), count, dtype=torch.long))

    def forward(self, student: Tensor, teacher: Tensor, due: bool) -> Tensor:
        with torch.no_grad():
            self.track(student, teacher)
            if due:
                self.solve()
            target = self.target(teacher)
        student = self.norm(student)[:, self.taught]
        active = (student > target) | (target > 0)
        return ((student - target).pow(2) * active).sum() / len(student)

    def target(self, teacher: Tensor) -> Tensor:
        """(N, K, H, W): what the student's channels are to be."""
        negative = teacher < 0
        margins = teacher.clamp(max=0).sum((0, 2, 3)) / negative.sum((0, 2, 3)).clamp(min=1)
        groups = teacher[:, self.teachers]  # (N, G, K, H, W)
        strongest = groups.gather(1, groups.abs().argmax(1, keepdim=True)).squeeze(1)
        return torch.maximum(strongest, margins[self.teachers].mean(0)[:, None, None])

    def track(self, student: Tensor, teacher: Tensor) -> None:
        maps = [F.normalize(x.flatten(2), dim=2) for x in (student, teacher)]
        self.cost += 2 - 2 * torch.einsum("nsp,ntp->st", maps[0], maps[1]) / len(student)

    def solve(self) -> None:
        # Not a number here is the training's failure, which its loss will tell, and not the solver's.
        cost = self.cost.nan_to_num().cpu().numpy()
        rows, columns = linear_sum_assignment(np.tile(cost, (len(self.teachers), 1)))
        self.taught.copy_(torch.from_numpy(rows[: len(self.taught)]))
        self.teachers.copy_(torch.from_numpy(columns).view(self.teachers.shape))
        self.cost.zero_()


MATCHING: dict[str, Entry] = {
    "mgd": Entry(
        MGD,
        0.001,
        "feature",
        "Yue et al. 2020",
        "a batch-norm a stage while training, an assignment now and then",
    ),
}
