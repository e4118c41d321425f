"""Flow: how the channels of a network go together."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.feature_shapes import pairs, resize, side
from pipeline.losses.relation import gram, unit
from pipeline.losses.step import Entry, Shapes, Step, full


class FSP(nn.Module):
    """Flow of solution procedure: mean over l of mean((G_s,l − G_t,l)²), G_l = F_lᵀ F_{l+1} / (H·W).

    F_l (H·W, C_l) is stage l of an image, G_l (N, C_l, C_{l+1}), its mean over all entries and the batch; l
    runs over every two pairs of stages that follow each other. The larger of the two maps is average-pooled
    to the side of the smaller (Tian et al. 2020; the paper takes the maximum). Source: Yim et al. 2017, CVPR,
    which sums over entries. Means and weight 1 are those of AberHu's Knowledge-Distillation-Zoo; Tian et al.
    sum over l. The paper, and Tian et al. for 30 epochs before their 240, first train on this loss alone and
    then on the labels alone; here the labels are taught beside it, and its weight is 0 after 0.125 of the
    training. Both networks need the same widths at the paired stages, and two pairs at least.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.pairs = pairs(len(shapes.student), len(shapes.teacher))
        if len(self.pairs) < 2:
            raise ValueError(
                "it compares what flows from stage to stage, and there is only one pair of stages"
            )
        student = tuple(shapes.student[s][0] for s, _ in self.pairs)
        teacher = tuple(shapes.teacher[t][0] for _, t in self.pairs)
        if student != teacher:
            raise ValueError(
                f"both networks need the same widths, but the stages have {student} channels in the student "
                f"and {teacher} in the teacher"
            )

    def forward(self, step: Step) -> Tensor:
        student = [full(step.student.stages[s]) for s, _ in self.pairs]
        teacher = [full(step.teacher.stages[t]) for _, t in self.pairs]
        flows = zip(pairwise(student), pairwise(teacher), strict=True)
        return torch.stack([F.mse_loss(flow(*s), flow(*t)) for s, t in flows]).mean()


def flow(x: Tensor, y: Tensor) -> Tensor:
    """(N, C, H, W) and (N, D, H', W') → (N, C, D): the mean over places of the products of channels."""
    size = min(side(x), side(y))
    x, y = (resize(f, size).flatten(2) for f in (x, y))
    with torch.autocast(x.device.type, enabled=False):
        return x @ y.mT / x.shape[2]


class ICKD(nn.Module):
    """Inter-channel correlation: Σ_nij (Ĝ_s,nij − Ĝ_t,nij)² / (N · C), Ĝ the rows of G = F Fᵀ at unit length.

    F (N, C, H·W) is the last stage, C the teacher's width; the student's comes through a learnt 1×1
    convolution without bias and a batch-norm, the two sides may differ. G (N, C, C) is taken per image, its
    rows (over j) scaled by their L2 norm, which drops a factor such as 1 / (H·W); a row of zeros stays zero.
    Source: Liu et al. 2021, ICCV, arXiv 2202.03680 (ICKD-C). Normalisation and weight 2.5 are those of the
    authors' CIFAR-100 code, beside the labels' cross-entropy at 1.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        width = shapes.teacher[-1][0]
        convolution = nn.Conv2d(shapes.student[-1][0], width, 1, bias=False)
        self.adapt = nn.Sequential(convolution, nn.BatchNorm2d(width))

    def forward(self, step: Step) -> Tensor:
        both = (self.adapt(step.student.stages[-1]), step.teacher.stages[-1])
        student, teacher = (unit(gram(full(f).flatten(2))) for f in both)
        return (student - teacher).square().sum(2).mean()


FLOW = {
    "fsp": Entry(FSP, 1.0, "relation", "Yim et al. 2017", stop=0.125),
    "ickd": Entry(ICKD, 2.5, "relation", "Liu et al. 2021", "a 1×1 convolution while training"),
}
