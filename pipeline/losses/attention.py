"""Attention: which of the teacher's stages a student's stage should learn from is learnt too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.feature_shapes import resize, side
from pipeline.losses.step import Entry, Shapes, Step, full


class AFD(nn.Module):
    """Attention-based feature distillation: Σ_t mean_b Σ_s a_bts · mean_p (φ(f_s) − φ(f_t))²_bp, all pairs.

    a = softmax over the student's stages s of (k_bst · q_bt + p_t · p_s) / √d. q_bt = BN(W_t g_bt), d
    numbers; k_bst is the t-th d numbers of BN'(V · ReLU(BN(W_s g_bs))). g (C,) are a stage's spatial means; W
    and BN are a stage's own; V (T·d, d) and BN' serve all the student's stages (BN' over their N·S rows at
    once); p are learnt (Xavier normal). φ(f): mean_c f², (N, H, W), resized to the teacher's side (averages
    downwards, nearest upwards), flat and at unit length. Source: Ji, Heo & Park 2021, arXiv 2102.02973, as in
    their code; d = 128 theirs. Weight 50 beside KD at 0.9: PaddleClas, ResNet-34 → 18 on ImageNet; the
    authors' command for CIFAR-100 has 200. Both take every residual block for a stage; here it is the taps. W
    and V have no bias, BN' no scale and shift (theirs have): the norms, q's scale and shift and the softmax
    make them idle. In training BN uses the batch's statistics; gradients go through a too.
    """

    def __init__(self, shapes: Shapes, *, width: int = 128) -> None:
        super().__init__()
        count = len(shapes.teacher)
        self.query = nn.ModuleList(normed(c, width) for c, _, _ in shapes.teacher)
        self.key = nn.ModuleList(nn.Sequential(normed(c, width), nn.ReLU()) for c, _, _ in shapes.student)
        self.bilinear = normed(width, count * width, affine=False)
        self.teacher_position = nn.Parameter(nn.init.xavier_normal_(torch.empty(count, width)))
        self.student_position = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(shapes.student), width)))

    def forward(self, step: Step) -> Tensor:
        students, teachers = ([full(x) for x in out.stages] for out in (step.student, step.teacher))
        with torch.autocast(students[0].device.type, enabled=False):
            weights = self.attention(students, teachers)
            total = weights.new_zeros(())
            for t, teacher in enumerate(teachers):
                target = energy(teacher, side(teacher))
                gaps = [(energy(x, side(teacher)) - target).pow(2).mean(1) for x in students]
                total = total + (weights[:, t] * torch.stack(gaps, dim=1)).sum(1).mean()
        return total

    def attention(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
        """(N, T, S): how much of each of the teacher's stages falls to each of the student's."""
        queries = torch.stack([f(x.mean((2, 3))) for f, x in zip(self.query, teachers, strict=True)], dim=1)
        keys = torch.stack([f(x.mean((2, 3))) for f, x in zip(self.key, students, strict=True)], dim=1)
        n, count, width = queries.shape
        keys = self.bilinear(keys.flatten(0, 1)).view(n, len(students), count, width)
        logits = (
            torch.einsum("nstd,ntd->nts", keys, queries) + self.teacher_position @ self.student_position.T
        )
        return (logits / width**0.5).softmax(dim=2)  # type: ignore[no-any-return]


def normed(source: int, target: int, affine: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Linear(source, target, bias=False), nn.BatchNorm1d(target, affine=affine))


def energy(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, H, W) → (N, H'·W'): where the map is strong, at unit length."""
    return F.normalize(resize(x.pow(2).mean(1, keepdim=True), size).flatten(1))


class SemCKD(nn.Module):
    """Semantic calibration: 1/(N·S) Σ_b Σ_s Σ_t a_bst · mean_chw (r_st(f_s) − f_t)²_b, all pairs of stages.

    a = softmax over the teacher's stages t of q_bs · k_bt, where q_s = u(M_s G_s) and k_t = u(M_t G_t), u
    brings each row (image b) to unit length, G = F Fᵀ (N, N) with F the stage flattened to (N, C·H·W), and
    each stage has its own M = Linear(B, 2m), ReLU, Linear(2m, m) with biases on the rows of G, m = ⌊B/4⌋.
    r_st = conv 1×1 to 2·C_t, BN, ReLU, conv 3×3 (zeros around), BN, ReLU, conv 1×1 to C_t, without biases;
    the larger of both maps is first pooled to the smaller (the student's before r). Source: Chen et al. 2021,
    arXiv 2012.03236, as in their code; their weight is 400 for ResNet-32x4 → 8x4 on CIFAR-100, beside
    cross-entropy and KD at 1 (50 on ImageNet); 100 here, as ResNet-32 → 8 diverged at 400 and lr 0.05.
    Their M fits one size of batch; here ``batch`` is B, 64 as theirs, and an image is compared with the first
    B of its batch, with zeros where there are fewer: their equation at N = B. In training BN uses the batch's
    statistics; gradients go through a too.
    """

    def __init__(self, shapes: Shapes, *, batch: int = 64) -> None:
        super().__init__()
        if batch < 8:
            raise ValueError(f"batch is {batch}, but the attention needs 8 images or more to compare with")
        self.batch = batch
        self.query = nn.ModuleList(embedding(batch) for _ in shapes.student)
        self.key = nn.ModuleList(embedding(batch) for _ in shapes.teacher)
        self.project = nn.ModuleList(
            nn.ModuleList(projection(s[0], t[0]) for t in shapes.teacher) for s in shapes.student
        )

    def forward(self, step: Step) -> Tensor:
        students, teachers = step.student.stages, step.teacher.stages
        weights = self.attention(students, teachers)
        total = weights.new_zeros(())
        for s, student in enumerate(students):
            for t, teacher in enumerate(teachers):
                size = min(side(student), side(teacher))
                guess = full(self.project[s][t](resize(student, size)))  # type: ignore[index]
                gap = (guess - full(resize(teacher, size))).pow(2).mean((1, 2, 3))
                total = total + (weights[:, s, t] * gap).mean()
        return total / len(students)

    def attention(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
        """(N, S, T): which of the teacher's stages each of the student's is to learn from."""
        with torch.autocast(students[0].device.type, enabled=False):
            queries = [F.normalize(f(self.rows(x))) for f, x in zip(self.query, students, strict=True)]
            keys = [F.normalize(f(self.rows(x))) for f, x in zip(self.key, teachers, strict=True)]
            return (torch.stack(queries, dim=1) @ torch.stack(keys, dim=2)).softmax(dim=2)

    def rows(self, x: Tensor) -> Tensor:
        """(N, B): each image's similarity to the first B of its batch; a negative padding cuts."""
        flat = full(x).flatten(1)
        return F.pad(flat @ flat.T, (0, self.batch - len(flat)))


def embedding(batch: int) -> nn.Sequential:
    width = batch // 4
    return nn.Sequential(nn.Linear(batch, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))


def projection(source: int, target: int) -> nn.Sequential:
    width = 2 * target
    return nn.Sequential(
        nn.Conv2d(source, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, target, 1, bias=False),
    )


ATTENTION: dict[str, Entry] = {
    "afd": Entry(
        AFD, 50.0, "feature", "Ji et al. 2021", "a linear layer a stage and an attention while training"
    ),
    "semckd": Entry(
        SemCKD,
        100.0,
        "feature",
        "Chen et al. 2021 (SemCKD)",
        "three convolutions a pair of stages while training",
    ),
}
