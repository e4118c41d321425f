"""Relations: how the images of a batch lie to each other."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.feature_shapes import Adapter, pairs
from pipeline.losses.step import Entry, Shapes, Step, full


def unit(x: Tensor) -> Tensor:
    """At unit length along the last axis; zero stays zero, with a finite gradient."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.masked_fill(length == 0, 1.0)


def gram(x: Tensor) -> Tensor:
    """(…, N, D) → (…, N, N): the inner products of the rows, in x's precision under autocast too."""
    with torch.autocast(x.device.type, enabled=False):
        return x @ x.mT


def sp(step: Step) -> Tensor:
    """Similarity preserving: ‖G_s − G_t‖²_F / N², the rows of G = F Fᵀ scaled to unit length (L2).

    F (N, C·H·W) is the last stage, flattened; G is (N, N), so that widths and sides may differ. A row of
    zeros stays zero. Source: Tung & Mori 2019, arXiv 1907.09682. Weight 3000 is theirs; the last stage alone
    is what Tian et al. 2020 take (the paper may sum over several). With unit rows the value falls as 1/N: the
    weight was set at a batch of 64.
    """
    student, teacher = (unit(gram(full(o.stages[-1]).flatten(1))) for o in (step.student, step.teacher))
    return F.mse_loss(student, teacher)


def cc(step: Step, *, gamma: float = 0.4, order: int = 2) -> Tensor:
    """Correlation congruence: ‖C_s − C_t‖²_F / N², C_ij = e^(−2γ) · Σ_{p=0..P} (2γ)^p / p! · (f̂_i · f̂_j)^p.

    C (N, N) is the Gaussian kernel exp(−γ‖f̂_i − f̂_j‖²) by its Taylor expansion of order P (``order``); f̂ is
    the pooled feature (N, D) at unit length, and the two D may differ. Source: Peng et al. 2019, arXiv
    1904.01802; γ = 0.4 and P = 2 are theirs. Weight 100: AberHu's Knowledge-Distillation-Zoo, which takes
    this very mean. The paper's instance term is ``kd``. RepDistiller's loss of this name is another one
    (products of neighbouring images' |e_s − e_t|, e learnt embeddings, weight 0.02).
    """
    student, teacher = (kernel(full(o.pooled), gamma, order) for o in (step.student, step.teacher))
    return F.mse_loss(student, teacher)


def kernel(x: Tensor, gamma: float, order: int) -> Tensor:
    cosine = gram(unit(x))
    terms = [(2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1)]
    return math.exp(-2 * gamma) * torch.stack(terms).sum(0)


def rkd(step: Step, *, distance: float = 25.0, angle: float = 50.0) -> Tensor:
    """Relational distillation: 25 · mean_ij h(d_s,ij − d_t,ij) + 50 · mean_jik h(a_s,jik − a_t,jik).

    h(x) = x²/2 for |x| < 1, else |x| − 1/2. d_ij = ‖f_i − f_j‖ / μ, μ the mean of the distances that are
    positive (if none is, d = 0); a_jik = e_ji · e_jk, the cosine at image j, e_ji = (f_i − f_j) /
    ‖f_i − f_j‖, and 0 where two points coincide. The means are over all N² and N³ entries. f is the pooled
    feature (N, D), the two D may differ. Source: Park et al. 2019, arXiv 1904.05068; 25 and 50 (``distance``,
    ``angle``) with weight 1 are theirs and Tian et al.'s 2020. Coinciding points take no gradient from their
    distance (their code clamps it instead). Memory grows as N² · D + N³.
    """
    (d_s, a_s), (d_t, a_t) = (geometry(full(o.pooled)) for o in (step.student, step.teacher))
    return distance * F.smooth_l1_loss(d_s, d_t) + angle * F.smooth_l1_loss(a_s, a_t)


def geometry(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, N) distances over their mean, and (N, N, N) cosines of the angles at the first index."""
    edges = x - x[:, None]
    lengths: Tensor = torch.linalg.vector_norm(edges, dim=2)
    mean = lengths.sum() / (lengths > 0).sum().clamp(min=1)
    return lengths / mean.masked_fill(mean == 0, 1.0), gram(unit(edges))


def pkt(step: Step) -> Tensor:
    """Probabilistic transfer: mean_ij P_t,ij · ln((P_t,ij + ε) / (P_s,ij + ε)), P_ij = K_ij / Σ_k K_ik.

    K_ij = (1 + cos(f_i, f_j)) / 2, i = j included, f the pooled feature (N, D), the two D may differ; cos
    with a zero feature is 0; ε = 1e-7; the mean is over all N² entries. Source: Passalis & Tefas 2018, ECCV,
    and their published code (the mean, ε; the paper sums). Weight 30000: Tian et al. 2020 at a batch of 64;
    the value falls about as 1/N.
    """
    student, teacher = (probabilities(full(o.pooled)) for o in (step.student, step.teacher))
    return (teacher * ((teacher + 1e-7) / (student + 1e-7)).log()).mean()


def probabilities(x: Tensor) -> Tensor:
    affinity = (1 + gram(unit(x))).clamp(min=0) / 2  # rounding may take a cosine below −1
    return affinity / affinity.sum(1, keepdim=True)


def irg(step: Step, *, vertices: float = 0.1, edges: float = 5.0, transformation: float = 5.0) -> Tensor:
    """Instance relationship graph: 0.1 · mean((z_s − z_t)²) + 5 · mean over l of mean((E_s,l − E_t,l)²)
    + 5 · mean over l of mean((T_s,l − T_t,l)²): vertices, edges and their transformation.

    z (N, classes) are the logits, x_l (N, C_l) stage l averaged over the image. E_l,ij = ‖x_l,i − x_l,j‖² /
    max_ij (the same), (N, N), for each pair of stages; T_l,i = ‖x_l,i − x_{l+1},i‖² / max_i (the same), (N,),
    for each two pairs that follow each other (with one pair of stages there is no T). Where a maximum is 0
    the ratio is 0; the gradient passes through the maximum. Source: Liu et al. 2019, CVPR, and their Caffe
    layers (averaged features, squared distances over their maximum). Weights 0.1, 5, 5 and the plain means:
    AberHu's Knowledge-Distillation-Zoo, which flattens the maps instead. The authors measure T within a stage,
    where widths agree; between stages, as here and in the Zoo, the wider x is averaged to the narrower width:
    of C channels to c, channel k is the mean of ⌊kC/c⌋ … ⌈(k+1)C/c⌉ − 1. Stages are one to one.
    """
    both = pairs(len(step.student.stages), len(step.teacher.stages))
    student = [full(step.student.stages[s]).mean((2, 3)) for s, _ in both]
    teacher = [full(step.teacher.stages[t]).mean((2, 3)) for _, t in both]
    compared = [F.mse_loss(mutual(s), mutual(t)) for s, t in zip(student, teacher, strict=True)]
    loss = vertices * F.mse_loss(full(step.student.logits), full(step.teacher.logits))
    loss = loss + edges * torch.stack(compared).mean()
    if len(both) > 1:
        shifts = zip(pairwise(student), pairwise(teacher), strict=True)
        compared = [F.mse_loss(shift(*s), shift(*t)) for s, t in shifts]
        loss = loss + transformation * torch.stack(compared).mean()
    return loss


def mutual(x: Tensor) -> Tensor:
    """(N, N) squared distances over the largest of them."""
    # By differences: from inner products, near points would lie at the distance of a rounding error.
    return over_largest(torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square())


def shift(x: Tensor, y: Tensor) -> Tensor:
    """(N,) squared distances between an image's features at two stages, over the largest of them."""
    width = min(x.shape[1], y.shape[1])
    return over_largest((F.adaptive_avg_pool1d(x, width) - F.adaptive_avg_pool1d(y, width)).square().sum(1))


def over_largest(x: Tensor) -> Tensor:
    largest = x.max()
    return x / largest.masked_fill(largest == 0, 1.0)


class CategoryStructure(nn.Module):
    """Category structure: Σ_v 0.002 · mean((δ_s − δ_t)²) + 0.04 · mean((R_s − R_t)²), over two views v.

    The views x (N, D) are the last stage, flattened, the student's through a learnt 1×1 convolution without
    bias to the teacher's width (first to its side: averaged when larger, repeated when smaller), and the
    logits. c_k is the mean of x over the batch's images of class k. Intra-category: δ_i = x_i − c_{y_i}, the
    mean over (N, D). Inter-category: R_kl = cos(c_k, c_l), the mean over (K, K), K the classes present; cos
    with 0 is 0. One image per class leaves δ = 0 and only R to compare; one class leaves R = 1 and only δ.
    Source: Chen et al. 2020, ECCV (CSKD), after their published code: differences within, cosines between,
    0.002 and 0.04 (``intra``, ``inter``). Left out of that code: a second division of each term by the size
    of what it compares, which leaves next to nothing of it; that wrongly classified images do not count for a
    centre of features; and 0.1 · mean((z_s − c_s)²), which draws the student's logits together without a
    teacher.
    """

    def __init__(self, shapes: Shapes, *, intra: float = 0.002, inter: float = 0.04) -> None:
        super().__init__()
        self.intra, self.inter = intra, inter
        self.adapt = Adapter(shapes.student[-1], shapes.teacher[-1])

    def forward(self, step: Step) -> Tensor:
        classes, of = torch.unique(step.labels, return_inverse=True)
        member = F.one_hot(of, len(classes)).T
        adapted: Tensor = self.adapt(step.student.stages[-1])
        total = full(step.student.logits).new_zeros(())
        for ours, theirs in (
            (adapted, step.teacher.stages[-1]),
            (step.student.logits, step.teacher.logits),
        ):
            (d_s, r_s), (d_t, r_t) = (structure(full(x).flatten(1), member, of) for x in (ours, theirs))
            total = total + self.intra * F.mse_loss(d_s, d_t) + self.inter * F.mse_loss(r_s, r_t)
        return total


def structure(x: Tensor, member: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D) from the class's centre to each image, and (K, K) cosines between the centres."""
    share = member.to(x.dtype) / member.sum(1, keepdim=True)
    with torch.autocast(x.device.type, enabled=False):
        centres = share @ x
    return x - centres[of], gram(unit(centres))


RELATION = {
    "sp": Entry(sp, 3000.0, "relation", "Tung & Mori 2019"),
    "cc": Entry(cc, 100.0, "relation", "Peng et al. 2019"),
    "rkd": Entry(rkd, 1.0, "relation", "Park et al. 2019"),
    "pkt": Entry(pkt, 30000.0, "relation", "Passalis & Tefas 2018"),
    "irg": Entry(irg, 1.0, "relation", "Liu et al. 2019"),
    "category": Entry(
        CategoryStructure, 1.0, "relation", "Chen et al. 2020", "a 1×1 convolution while training"
    ),
}
