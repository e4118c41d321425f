"""Lessons prepared: the teacher's answers corrected, chosen, or made up, before the student sees them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.losses.response import divergence, softened
from pipeline.losses.step import Entry, Step, full


def conditional(step: Step, *, temperature: float = 4.0) -> Tensor:
    """The teacher where it is right, the label elsewhere: mean over the batch of
    T² · KL(softmax(z_t / T) ‖ softmax(z_s / T)) where argmax z_t = y, else −ln softmax(z_s)[y].

    KL is summed over classes; logits z are (N, C); of classes that tie, argmax is the first. Source: Meng et
    al. 2019, arXiv 1904.12399, who use T = 1 and no cross-entropy beside it. T = 4 and weight 0.9 are those of
    ``kd``, which it is for a teacher without fault. The paper has no T ≠ 1: that the label's term is not
    softened then is ours, as a label has nothing to soften.
    """
    student, teacher = full(step.student.logits), full(step.teacher.logits)
    taught = divergence(student / temperature, teacher / temperature) * temperature**2
    told = F.cross_entropy(student, step.labels, reduction="none")
    return torch.where(teacher.argmax(1) == step.labels, taught, told).mean()


def ka_shift(step: Step, *, temperature: float = 4.0) -> Tensor:
    """Knowledge adjustment by probability shift: T² · KL(A(softmax(z_t / T)) ‖ softmax(z_s / T)), summed over
    classes, mean over the batch; A swaps the probabilities of the largest class and of the true one.

    So a right answer stays as it is, and a wrong one becomes right without a new number. Logits z are (N, C);
    of classes that tie, the first is the largest. Source: Wen et al. 2021, arXiv 1911.07471; weight 0.9 and
    T = 4 are those of ``kd``.
    """
    student, teacher = full(step.student.logits), full(step.teacher.logits)
    largest, named = teacher.max(1, keepdim=True)
    label = step.labels[:, None]
    # The order of softmax and swap does not matter; where the teacher is right, the swap is with itself.
    shifted = teacher.scatter(1, named, teacher.gather(1, label)).scatter(1, label, largest)
    return softened(student, shifted, temperature)


def ka_smooth(step: Step, *, correct: float = 0.9, temperature: float = 4.0) -> Tensor:
    """Knowledge adjustment by label smoothing: T² · KL(q ‖ softmax(z_s / T)), summed over classes, mean over
    the batch; q = softmax(z_t / T) where argmax z_t = y, else ``correct`` for y and (1 − correct) / (C − 1)
    for each other class.

    Logits z are (N, C); of classes that tie, argmax is the first. Source: Wen et al. 2021, arXiv 1911.07471;
    the smoothed target is not softened, but T² weighs it too, as in the paper. correct = 0.9 is that of public
    code; weight 0.9 and T = 4 are those of ``kd``.
    """
    student, teacher = full(step.student.logits) / temperature, full(step.teacher.logits) / temperature
    smooth = smoothed(teacher, step.labels, correct).clamp_min(torch.finfo(teacher.dtype).tiny).log()
    right = teacher.argmax(1, keepdim=True) == step.labels[:, None]
    return divergence(student, torch.where(right, teacher, smooth)).mean() * temperature**2


def smoothed(like: Tensor, labels: Tensor, correct: float) -> Tensor:
    """Probabilities (N, C): ``correct`` for the label, the rest spread evenly."""
    rest = torch.full_like(like, (1 - correct) / (like.shape[1] - 1))
    return rest.scatter(1, labels[:, None], correct)


def dtd(step: Step, *, temperature: float = 4.0, beta: float = 1.0, gamma: float = 2.0) -> Tensor:
    """Dynamic temperature: mean over the batch of T_x² · KL(softmax(z_t / T_x) ‖ softmax(z_s / T_x)), summed
    over classes; T_x = max(1, T + β · (mean_x w − w_x)), w_x = (1 − cos(z_s, z_t))^γ.

    Images on which student and teacher differ get a lower temperature, so a sharper answer. Logits z are
    (N, C); cos = z_s · z_t / (‖z_s‖₂ ‖z_t‖₂), 0 where a norm is; no gradient flows through T_x. Source: Wen et
    al. 2021, arXiv 1911.07471, with its focal-style weights (its other choice is 1 / max softmax(z_s)). β = 1,
    γ = 2 and w as it is, not normalised over the batch, are TextBrewer's. Weight 0.9 and T = 4 are those of
    ``kd``. Ours: T_x is at least 1, as below that the answer would be sharper than the teacher gave it, and at
    0 there is none.
    """
    student, teacher = full(step.student.logits), full(step.teacher.logits)
    with torch.no_grad():
        alike = (F.normalize(student) * F.normalize(teacher)).sum(1, keepdim=True)
        weight = (1 - alike).clamp_min(0) ** gamma
        warmth = (temperature + beta * (weight.mean() - weight)).clamp_min(1)
    return (divergence(student / warmth, teacher / warmth) * warmth[:, 0] ** 2).mean()


def tf_kd(step: Step, *, correct: float = 0.9, temperature: float = 20.0) -> Tensor:
    """Teacher-free KD: KL(softmax(u / T) ‖ softmax(z_s)), summed over classes, mean over the batch;
    u = ``correct`` for the label and (1 − correct) / (C − 1) for each other class.

    The virtual teacher's probabilities u are softened as if they were logits, the student is not, and there
    is no T²: the published code. At T = 20 the target is almost even, so that this is label smoothing, with
    a little more for the label. Logits z are (N, C); the real teacher is not asked. Source: Yuan et al. 2020,
    arXiv 1909.11723, Tf-KD_reg; the paper asks for correct ≥ 0.9 (the code has 0.99) and T ≥ 20. Weight 0.1
    beside 0.9 of the cross-entropy is theirs for ResNet18 on CIFAR-100, where a factor of 100 undoes the
    code's mean over the classes.
    """
    student = full(step.student.logits)
    virtual = smoothed(student, step.labels, correct)
    return divergence(student, virtual / temperature).mean()


def unix(
    step: Step,
    *,
    keep: float = 0.75,
    middle: float = 0.5,
    steepness: float = 10.0,
    temperature: float = 4.0,
) -> Tensor:
    """Uncertainty-aware mixup: T² · KL(softmax(z_t / T) ‖ softmax(z_s / T)), summed over classes, mean over k
    mixed images x_r = (1 − c_r) · image[rank_r] + c_r · image[partner_r], r = 0 … k − 1, k = ⌈keep · N⌉;
    c_r = λ · σ(steepness · ((r + ½) / N − middle)), σ the logistic function.

    rank sorts the N images by the entropy of softmax(student's logits), the most uncertain first (stable), so
    the more certain an image, the more of another is mixed in. λ ~ U(0, 1) is one number a batch, drawn by
    torch.rand(()), and after it the partners, torch.randperm(N)[:k] of the whole batch, both from the step's
    generator. z_t and z_s are both networks' answers to x; of the batch itself the teacher is not asked, and
    no gradient flows through rank. Source: Xu et al. 2020, arXiv 2012.09413; keep = 48/64, middle = 32/64,
    steepness = 10, T = 4 and weight 1 are those of its code, which has no cross-entropy beside it.
    """
    count = len(step.images)
    kept = math.ceil(keep * count)
    uncertainty = torch.special.entr(full(step.student.logits.detach()).softmax(1)).sum(1)
    rank = uncertainty.argsort(descending=True, stable=True)[:kept]
    share = float(torch.rand((), generator=step.generator))
    partner = torch.randperm(count, generator=step.generator)[:kept].to(step.images.device)
    place = (torch.arange(kept, device=rank.device, dtype=step.images.dtype) + 0.5) / count
    mix = (share * torch.sigmoid(steepness * (place - middle)))[:, None, None, None]
    mixed = (1 - mix) * step.images[rank] + mix * step.images[partner]
    with torch.no_grad():
        teacher = full(step.teacher_network(mixed).logits)
    student = full(step.student_network(mixed).logits)
    return softened(student, teacher, temperature)


LESSONS = {
    "conditional": Entry(conditional, 0.9, "response", "Meng et al. 2019"),
    "ka-shift": Entry(ka_shift, 0.9, "response", "Wen et al. 2021"),
    "ka-smooth": Entry(ka_smooth, 0.9, "response", "Wen et al. 2021"),
    "dtd": Entry(dtd, 0.9, "response", "Wen et al. 2021"),
    "tf-kd": Entry(tf_kd, 0.1, "response", "Yuan et al. 2020"),
    "unix": Entry(
        unix,
        1.0,
        "response",
        "Xu et al. 2020",
        "the student once more on a share of the batch; the teacher on that share alone",
    ),
}
