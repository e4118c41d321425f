"""Resets: a part is fed the other network's features, or cut off before itself, to answer for itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.feature_shapes import Adapter, pairs
from pipeline.losses.step import Entry, Shapes, Step, full


class SRKD(nn.Module):
    """Stage reset: Σ_i mean((M_i(F_i^S) − S_i^T(F_{i−1}^S))²): the teacher's stage i is fed the student's
    previous output, so that a stage of the student answers for itself and not for those before it.

    F are (N, C, H, W), F_0 the image. Source: the paper that names it SRKD (year unknown to us, no public
    code); λ = 0.1, beside cross-entropy and KD at weight 1. The paper leaves open, and this code chooses: the
    square is a mean (not a sum); no gradient flows through the teacher's stage into F_{i−1}^S (a target is
    fixed); the teacher's side has no adapter (one that learns could make both sides agree on nothing); where
    the student's F_{i−1}^S differs in shape from what the teacher's stage expects, the adapter of stage i−1
    makes it fit; stages are paired from the last, and the first pair takes the teacher's own features when it
    is not the first of both networks.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.pairs = pairs(len(shapes.student), len(shapes.teacher))
        self.adapt = nn.ModuleList(Adapter(shapes.student[s], shapes.teacher[t]) for s, t in self.pairs)
        self.fits = [shapes.student[s] == shapes.teacher[t] for s, t in self.pairs]

    def forward(self, step: Step) -> Tensor:
        total = full(step.student.logits).new_zeros(())
        adapted: list[Tensor] = []
        for i, (s, t) in enumerate(self.pairs):
            adapted.append(self.adapt[i](step.student.stages[s]))
            with torch.no_grad():
                target = self.target(step, i, t, adapted)
            total = total + F.mse_loss(full(adapted[i]), full(target))
        return total

    def target(self, step: Step, i: int, t: int, adapted: list[Tensor]) -> Tensor:
        if i == 0:
            return step.teacher.stages[t]
        before = step.student.stages[self.pairs[i - 1][0]] if self.fits[i - 1] else adapted[i - 1]
        return step.teacher_network.stage(t, before)


class LIT(nn.Module):
    """Block-wise training: Σ_i mean((A_i(S_i(B_{i−1}(F_{i−1}^T))) − F_i^T)²): the student's stage i is fed
    the teacher's previous output and is to give the teacher's next; the mirror image of SRKD.

    F^T are the teacher's stages (N, C, H, W), S_i is the student's stage, the mean is over all elements. A_i,
    B_{i−1} (to the teacher's exit, the student's entry) are identities where shapes agree (the paper has
    equal widths), else learnt 1×1 convolutions without bias after resizing. Stages are paired from the last;
    the first pair's S_0 is the student from the image to that stage. The others run twice a step: in training
    their BatchNorms see the teacher's features beside the student's own, and the running statistics mix both,
    as in the authors' code. Source: Koratana et al. 2019, arXiv 1810.01937. Their CIFAR code: 1/4 of this
    beside 3/4 of KD (0.95 soft at T = 6, 0.05 labels), so weight 1/3 beside kd 0.95 and ``label_weight = 0.05``; 175
    of 300 epochs, then KD alone, so stop 0.58. They also copy stem and classifier from the teacher, this not.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.pairs = pairs(len(shapes.student), len(shapes.teacher))
        both = [(shapes.student[s], shapes.teacher[t]) for s, t in self.pairs]
        self.enter = nn.ModuleList(bridge(teacher, student) for student, teacher in both[:-1])
        self.leave = nn.ModuleList(bridge(student, teacher) for student, teacher in both)

    def forward(self, step: Step) -> Tensor:
        total = full(step.student.logits).new_zeros(())
        for i, (s, t) in enumerate(self.pairs):
            answer = step.student.stages[s]
            if i:
                answer = step.student_network.stage(s, self.enter[i - 1](step.teacher.stages[t - 1]))
            total = total + F.mse_loss(full(self.leave[i](answer)), full(step.teacher.stages[t]))
        return total


class StageByStage(nn.Module):
    """Stage by stage: phase i < n: mean((A_i(S_i(sg F_{i−1}^S)) − F_i^T)²); phase n: CE(h_S(sg p_s), y).

    i = min(⌊progress · (n + 1)⌋, n) for n pairs of stages: equal phases, in each of which one stage, or at
    last the classifier h_S, learns alone (sg stops the gradient). F are (N, C, H, W), p_s (N, D) pooled;
    means over all elements, cross-entropy over the batch. A_i is the identity where shapes agree, else a
    learnt 1×1 convolution without bias after resizing. Source: Gao et al. 2019 (SSKD), arXiv 1812.01819. Only
    for recipes with ``label_weight = 0`` and no other loss: nothing is to be balanced, so weight 1. Ours: stages are
    paired from the last, and the first pair's S_0 is the student from the image to that stage; one
    learning-rate schedule spans the phases, so with ``cosine`` the later ones have the lower rates; running
    statistics of BatchNorms keep moving in all stages; what lies between the last stage and the classifier
    learns in no phase.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.pairs = pairs(len(shapes.student), len(shapes.teacher))
        self.adapt = nn.ModuleList(bridge(shapes.student[s], shapes.teacher[t]) for s, t in self.pairs)

    def forward(self, step: Step) -> Tensor:
        # Asked in every phase, so that a network without a linear classifier is refused at the start.
        logits = step.student_network.head(step.student.pooled.detach())
        phase = min(int(step.progress * (len(self.pairs) + 1)), len(self.pairs))
        if phase == len(self.pairs):
            return F.cross_entropy(full(logits), step.labels)
        s, t = self.pairs[phase]
        answer = step.student.stages[s]
        if phase:
            answer = step.student_network.stage(s, step.student.stages[s - 1].detach())
        return F.mse_loss(full(self.adapt[phase](answer)), full(step.teacher.stages[t]))


class InheritedClassifier(nn.Module):
    """Inherited classifier: mean((P p_s − p_t)²) + mean((h_S(sg p_s) − sg h_T(P p_s))²).

    p_s (N, D_s) and p_t (N, D_t) are the pooled features, P a learnt (D_t, D_s) matrix without bias, h_S and
    h_T the networks' linear classifiers; means over batch and features, over batch and classes; sg stops the
    gradient: the first term teaches P and all before the classifier, the second the classifier alone. Only
    for recipes with ``label_weight = 0``: no label is used. Source: after Chen et al. 2022 (SimKD), arXiv 2203.14001,
    and Shi et al. 2020 (ProxylessKD), arXiv 2011.00265. SimKD matches the maps before pooling through a
    projector of three convolutions, and deploys it and the teacher's classifier with the student; ProxylessKD
    trains by the labels through the teacher's classifier, on features of one width. Here h_T(P p) is affine
    in p, so the student's own classifier (with a bias, if the teacher's has one) can equal it and nothing is
    added at deployment. Weight 1, and 1 between the terms, which share no parameter that learns.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.project = nn.Linear(shapes.student_pooled, shapes.teacher_pooled, bias=False)

    def forward(self, step: Step) -> Tensor:
        pooled = step.student.pooled
        projected = self.project(pooled)
        with torch.no_grad():
            inherited = step.teacher_network.head(projected)
        own = step.student_network.head(pooled.detach())
        features = F.mse_loss(full(projected), full(step.teacher.pooled))
        return features + F.mse_loss(full(own), full(inherited))


def bridge(source: tuple[int, int, int], target: tuple[int, int, int]) -> nn.Module:
    """What leads from one shape (C, H, W) to another: nothing where they agree."""
    return nn.Identity() if source == target else Adapter(source, target)


RESETS = {
    "srkd": Entry(SRKD, 0.1, "feature", "SRKD (stage reset)", "the teacher's later stages run twice"),
    "lit": Entry(
        LIT,
        1 / 3,
        "feature",
        "Koratana et al. 2019",
        "the student's later stages run twice; 1×1 convolutions while training where shapes differ",
        stop=0.58,
    ),
    "stage-by-stage": Entry(
        StageByStage,
        1.0,
        "feature",
        "Gao et al. 2019",
        "the stage that learns runs twice; 1×1 convolutions while training where shapes differ",
    ),
    "inherited": Entry(
        InheritedClassifier,
        1.0,
        "feature",
        "after Chen et al. 2022 and Shi et al. 2020",
        "a linear layer while training",
    ),
}
