"""Transfer: what of the teacher's features matters, as boundaries, factors, margins or information."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.feature_shapes import Adapter, pairs, resize, side, unit
from pipeline.losses.step import Entry, Shapes, Step, full


class Connectors(nn.Module):
    """Each student's stage brought to the shape of the teacher's, by a 1×1 convolution and batch-norm."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.pairs = pairs(len(shapes.student), len(shapes.teacher))
        self.connect = nn.ModuleList(
            nn.Sequential(Adapter(shapes.student[s], shapes.teacher[t]), nn.BatchNorm2d(shapes.teacher[t][0]))
            for s, t in self.pairs
        )

    def pairs_of(self, step: Step) -> Iterator[tuple[float, Tensor, Tensor]]:
        """(factor, student, teacher) of each pair; the factor halves with each stage before the last."""
        for i, ((s, t), connect) in enumerate(zip(self.pairs, self.connect, strict=True), start=1):
            factor = 2.0 ** (i - len(self.pairs))
            yield factor, full(connect(step.student.stages[s])), full(step.teacher.stages[t])


def per_image(x: Tensor) -> Tensor:
    """Summed over all but the batch, mean over the batch."""
    return x.sum() / len(x)


class AB(nn.Module):
    """Activation boundaries: Σ_i 2^(i−n) · (1/N) Σ relu(μ − s)² where t > 0, relu(s + μ)² elsewhere.

    i = 1…n counts the pairs of stages, the inner sum is over images, channels and places. t is the teacher's
    stage (N, C, H, W); s = BN(W ∗ f) the student's f, resized to H × W (averages downwards, nearest upwards),
    through a learnt 1×1 convolution W without bias and batch-norm. Source: Heo et al. 2019 (AAAI), arXiv
    1811.03233, the differentiable form, with μ = ``margin`` = 1. Whether a neuron is active is t > 0 after a
    ReLU exactly as before it; the student's f is what follows its activation (the paper: what precedes it).
    The weight 0.003, the sum over elements and the factors 2^(i−n) are those of Tian et al.'s public code,
    2020, where this is the only loss of the first 30 of 240 epochs: it stops after the same eighth of the
    training, but here the labels are learnt beside it. The connector is always there (theirs: only where
    shapes differ). The sum grows with the features' size: for stages larger than CIFAR's lower the weight.
    """

    def __init__(self, shapes: Shapes, *, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin
        self.connectors = Connectors(shapes)

    def forward(self, step: Step) -> Tensor:
        total = full(step.student.logits).new_zeros(())
        for factor, student, teacher in self.connectors.pairs_of(step):
            beyond = torch.where(teacher > 0, self.margin - student, self.margin + student)
            total = total + factor * per_image(F.relu(beyond).pow(2))
        return total


def convolutions(*widths: int) -> nn.Sequential:
    """3×3 convolutions from width to width, each followed by batch-norm and leaky ReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)


class FT(nn.Module):
    """Factor transfer: mean|T̂ − Ŝ| + ``reconstruction`` · mean((D(E(t)) − t)²), both over all elements.

    t, f (N, C, H, W) are the last stages, f resized to H × W (averages downwards, nearest upwards). T = E(t)
    and S = R(f), both (N, m, H, W) with m = round(``rate`` · C_t), are the factors; T̂, Ŝ each image's
    factor, flattened, over its L2 norm (over 1e-12 where that is less). No gradient flows through T̂. E
    (widths C_t → C_t → m → m) and D (m → m → C_t → C_t) are the paraphraser, R (C_s → C_s → m → m) the
    translator: three 3×3 convolutions each, without bias, padded by 1, each followed by batch-norm (of the
    batch) and leaky ReLU of slope 0.1. Source: Kim et al. 2018, arXiv 1802.04977, with p = 1 and k = ``rate``
    = 0.5. The paper trains the paraphraser beforehand; here both learn together. The paper's transposed
    convolutions, of stride 1, are convolutions with mirrored kernels. Weight 200: Tian et al. 2020 (with a
    map of mean squares as factor) and the Knowledge-Distillation-Zoo (with this form); the authors' code has
    500. ``reconstruction`` is 1 / 200, so that the paraphraser learns at weight 1.
    """

    def __init__(self, shapes: Shapes, *, rate: float = 0.5, reconstruction: float = 0.005) -> None:
        super().__init__()
        self.student, self.teacher = pairs(len(shapes.student), len(shapes.teacher))[-1]
        source, target = shapes.student[self.student][0], shapes.teacher[self.teacher][0]
        width = round(rate * target)
        if width < 1:
            raise ValueError(f"a rate of {rate:g} leaves no channel of the teacher's {target}")
        self.reconstruction = reconstruction
        self.encode = convolutions(target, target, width, width)
        self.decode = convolutions(width, width, target, target)
        self.translate = convolutions(source, source, width, width)

    def forward(self, step: Step) -> Tensor:
        teacher = step.teacher.stages[self.teacher]
        student = resize(step.student.stages[self.student], side(teacher))
        factor: Tensor = self.encode(teacher)
        target, found = unit(factor.detach()), unit(self.translate(student))
        rebuilt = F.mse_loss(full(self.decode(factor)), full(teacher))
        return F.l1_loss(found, target) + self.reconstruction * rebuilt


class MarginReLU(nn.Module):
    """max(x, m_c): m_c is the mean of all negative responses of channel c up to this call, 0 without any."""

    margin: Tensor  # (C,)
    count: Tensor  # (C,), how many responses that is

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("margin", torch.zeros(channels))
        self.register_buffer("count", torch.zeros(channels, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        negative = x.clamp(max=0)
        new = (x < 0).sum((0, 2, 3))
        self.count += new
        self.margin += (negative.sum((0, 2, 3)) - self.margin * new) / self.count.clamp(min=1)
        return torch.maximum(x, self.margin[:, None, None])


class OFD(nn.Module):
    """Overhaul of feature distillation: Σ_i 2^(i−n) · (1/N) Σ d(s, max(t, m_c)), d the partial L2 distance.

    d(s, t) = 0 where s ≤ t ≤ 0, else (t − s)²; i = 1…n counts the pairs of stages, the inner sum is over
    images, channels and places. t is the teacher's stage (N, C, H, W); s = BN(W ∗ f) the student's f, resized
    to H × W (averages downwards, nearest upwards), through a learnt 1×1 convolution W without bias and
    batch-norm. Source: Heo et al. 2019 (ICCV), arXiv 1904.01866. The paper takes features before the ReLU and
    computes the margin m_c < 0, the expected negative response of channel c, from the batch-norm before it;
    our stages lie after the activation, so m_c is the mean of the negative responses of channel c in all
    batches so far, this one included, and 0 where there are none: after a ReLU max(t, m_c) = t, and nothing
    is asked where t = 0 and s ≤ 0. Weight 0.001: the authors' for CIFAR (1e-4 for ImageNet's larger stages,
    as the sum grows with them).
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.connectors = Connectors(shapes)
        self.rectify = nn.ModuleList(MarginReLU(shapes.teacher[t][0]) for _, t in self.connectors.pairs)

    def forward(self, step: Step) -> Tensor:
        total = full(step.student.logits).new_zeros(())
        taught = self.connectors.pairs_of(step)
        for (factor, student, teacher), rectify in zip(taught, self.rectify, strict=True):
            target: Tensor = rectify(teacher)
            counts = (student > target) | (target > 0)
            total = total + factor * per_image((student - target).pow(2) * counts)
        return total


class VID(nn.Module):
    """Variational information: Σ_i mean(½ · ((t − μ(f))² / σ_c² + ln σ_c²)), σ_c² = softplus(ρ_c) + 1e-5.

    i counts the pairs of stages; the mean is over images, channels and places. t is the teacher's stage
    (N, C, H, W), f the student's, resized to H × W (averages downwards, nearest upwards); μ are three learnt
    1×1 convolutions without bias (widths C_s → C → C → C) with ReLU between them; ρ (C,) is learnt, σ² = 5 at
    the start. It is −log of a Gaussian likelihood less its constant, so it may fall below 0. Source: Ahn et
    al. 2019, arXiv 1904.05835; which μ is left open there: this one, the mean, the start and weight 1 are
    those of Tian et al. 2020.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.pairs = pairs(len(shapes.student), len(shapes.teacher))
        self.mean, self.rho = nn.ModuleList(), nn.ParameterList()
        for s, t in self.pairs:
            width = shapes.teacher[t][0]
            hidden = [nn.ReLU(), nn.Conv2d(width, width, 1, bias=False)]
            again = [nn.ReLU(), nn.Conv2d(width, width, 1, bias=False)]
            self.mean.append(nn.Sequential(Adapter(shapes.student[s], shapes.teacher[t]), *hidden, *again))
            self.rho.append(nn.Parameter(torch.full((width,), math.log(math.expm1(5 - 1e-5)))))

    def forward(self, step: Step) -> Tensor:
        total = full(step.student.logits).new_zeros(())
        for (s, t), mean, rho in zip(self.pairs, self.mean, self.rho, strict=True):
            variance = (F.softplus(rho) + 1e-5)[:, None, None]
            error = full(step.teacher.stages[t]) - full(mean(step.student.stages[s]))
            total = total + (error.pow(2) / variance + variance.log()).mean() / 2
        return total


TRANSFER = {
    "ab": Entry(
        AB, 0.003, "feature", "Heo et al. 2019 (AAAI)", "a 1×1 convolution a stage while training", stop=0.125
    ),
    "ft": Entry(
        FT, 200.0, "feature", "Kim et al. 2018", "nine 3×3 convolutions at the last stage while training"
    ),
    "ofd": Entry(OFD, 0.001, "feature", "Heo et al. 2019 (ICCV)", "a 1×1 convolution a stage while training"),
    "vid": Entry(VID, 1.0, "feature", "Ahn et al. 2019", "three 1×1 convolutions a stage while training"),
}
