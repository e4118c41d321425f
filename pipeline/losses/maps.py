"""Maps: where the teacher looks, and how its channels are spread over the image."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.feature_shapes import pairs, pick, resize, side
from pipeline.losses.step import Entry, Shapes, Step, full


def paired(step: Step) -> Iterator[tuple[Tensor, Tensor]]:
    """The stages of student and teacher, from the last backwards, the larger map pooled to the smaller."""
    for s, t in pairs(len(step.student.stages), len(step.teacher.stages)):
        student, teacher = step.student.stages[s], step.teacher.stages[t]
        size = min(side(student), side(teacher))
        yield resize(student, size), resize(teacher, size)


def attention(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, H·W): the mean over channels of the squares, at unit length."""
    return F.normalize(full(x).pow(2).mean(1).flatten(1))


def at(step: Step) -> Tensor:
    """Attention transfer: Σ_j mean((Q_s,j − Q_t,j)²), Q = A / ‖A‖₂, A = mean_c f².

    The authors' published code; the paper's eq. 2 takes the norm of the difference instead. Stages f are
    (N, C, H, W), the larger map is pooled to the smaller. Source: Zagoruyko & Komodakis 2017, arXiv
    1612.03928; weight 1000 belongs to this mean over positions.
    """
    total = full(step.student.logits).new_zeros(())
    for student, teacher in paired(step):
        total = total + (attention(student) - attention(teacher)).pow(2).mean()
    return total


def at_paper(step: Step) -> Tensor:
    """Attention transfer as its paper writes it: Σ_j mean_n ‖Q_s,j,n − Q_t,j,n‖₂, Q = A / ‖A‖₂, A = Σ_c f².

    Eq. 2 of Zagoruyko & Komodakis 2017, arXiv 1612.03928, with p = 2; ``at`` is their published code. f are
    the stages (N, C, H, W), A of each image n is flattened to H·W and divided by its own norm; the norm of
    the difference is taken per image, averaged over images and summed over the pairs of stages (from the
    last backwards, the larger f first average-pooled to the smaller). Where the maps are equal the norm's
    gradient is taken as 0. The paper's factor β/2 is in the weight; its β = 1000 is divided by positions
    and batch and so belongs to ``at``. Weight 1 is ours: a norm between unit maps that are nowhere negative
    is at most √2, so each stage counts about as much as the cross-entropy.
    """
    total = full(step.student.logits).new_zeros(())
    for student, teacher in paired(step):
        # The gradient of a plain root of squares is not a number at 0; here it is 0.
        total = total + torch.linalg.vector_norm(attention(student) - attention(teacher), dim=1).mean()
    return total


def channels(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C, H·W): each channel's map at unit length; one that is all but dead stays short."""
    # With the usual 1e-12 a channel's first faint activation would get a gradient of any size.
    return F.normalize(full(x).flatten(2), dim=2, eps=1e-4)


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """The mean of (a_nc · b_nc′)² over images n and pairs of channels c, c′, of (N, C, L) and (N, C′, L)."""
    with torch.autocast(a.device.type, enabled=False):
        return (a @ b.mT).pow(2).mean()


def nst(step: Step) -> Tensor:
    """Neuron selectivity transfer: Σ_j mean k(t, t) + mean k(s, s) − 2 mean k(s, t), k(a, b) = (a · b)².

    The squared maximum mean discrepancy between the two networks' channels, as samples of where neurons
    fire. s and t are the stages (N, C, H, W) with each channel's map flattened to H·W and divided by
    max(‖·‖₂, 1e-4) (a dead channel stays 0); the means are over images and all C × C′ pairs of channels of
    the same image (a channel with itself too), so widths may differ. Summed over the pairs of stages (from
    the last backwards, the larger map first average-pooled to the smaller). Source: Huang & Wang 2017, arXiv
    1707.01219, the polynomial kernel with d = 2, c = 0. Weight 50: Tian et al. 2020 with these means; the
    teacher's own term is constant and is kept, so that equal channels give 0.
    """
    total = full(step.student.logits).new_zeros(())
    for student, teacher in paired(step):
        s, t = channels(student), channels(teacher)
        total = total + kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)
    return total


class CWD(nn.Module):
    """Channel-wise distillation: T² / C · Σ_c KL(softmax_hw(f_t,c / T) ‖ softmax_hw(M(f_s)_c / T)).

    f are (N, C, H, W) of one pair of stages; of each channel the softmax goes over its H·W positions, the
    KL is summed over these and averaged over images and the teacher's C channels. M pools the student to
    the teacher's side (nearest neighbours upwards) and, where widths differ, is then a learnt 1×1
    convolution without bias. Source: Shu et al. 2021 (ICCV), arXiv 2011.13256; T = 4 as there. The paper is
    of dense prediction, with weight 50 on feature maps and 3 on score maps, which a classifier lacks. Ours
    for a classifier: the last pair (``stage`` counts pairs from 0), and weight 10, at which the gradient is
    of the cross-entropy's size. Refused where either map has one position, as the softmax is then constant.
    """

    def __init__(self, shapes: Shapes, *, temperature: float = 4.0, stage: int = -1) -> None:
        super().__init__()
        both = pairs(len(shapes.student), len(shapes.teacher))
        self.student, self.teacher = both[pick(stage, len(both))]
        source, target = shapes.student[self.student], shapes.teacher[self.teacher]
        if 1 in (source[1] * source[2], target[1] * target[2]):
            raise ValueError("a map of one position has no spread over the image; choose an earlier stage")
        self.size, self.temperature = (target[1], target[2]), temperature
        same = source[0] == target[0]
        self.project = nn.Identity() if same else nn.Conv2d(source[0], target[0], 1, bias=False)

    def forward(self, step: Step) -> Tensor:
        student = self.spread(self.project(resize(step.student.stages[self.student], self.size)))
        teacher = self.spread(step.teacher.stages[self.teacher])
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(2)
        return divergence.mean() * self.temperature**2

    def spread(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H·W): the logarithm of each channel's share of every position."""
        return F.log_softmax(full(x).flatten(2) / self.temperature, dim=2)


MAPS = {
    "at": Entry(at, 1000.0, "feature", "Zagoruyko & Komodakis 2017"),
    "at-paper": Entry(at_paper, 1.0, "feature", "Zagoruyko & Komodakis 2017"),
    "nst": Entry(nst, 50.0, "feature", "Huang & Wang 2017"),
    "cwd": Entry(
        CWD, 10.0, "feature", "Shu et al. 2021", "a 1×1 convolution while training where widths differ"
    ),
}
