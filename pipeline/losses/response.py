"""Response losses: what the teacher answers."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.losses.step import Entry, Step, full


def kd(step: Step, *, temperature: float = 4.0) -> Tensor:
    """Soft targets: T² · KL(softmax(z_t / T) ‖ softmax(z_s / T)), summed over classes, mean over the batch.

    The factor T² keeps the gradient's size as T changes. Logits are (N, C). Source: Hinton, Vinyals & Dean
    2015, arXiv 1503.02531. Weight 0.9 beside 0.1 of the labels' cross-entropy, and T = 4: Tian et al. 2020.
    """
    return softened(full(step.student.logits), full(step.teacher.logits), temperature)


def softened(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL of both logits (N, C) over T: mean over the batch."""
    return divergence(student / temperature, teacher / temperature).mean() * temperature**2


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(softmax(teacher) ‖ softmax(student)) of each image, (N,), from logits (N, C) already softened."""
    student, teacher = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)


def hard_target(step: Step) -> Tensor:
    """Hard targets: −ln softmax(z_s)[argmax_c z_t,c], mean over the batch; no temperature.

    The cross-entropy with the class that the teacher names, right or wrong. Logits z are (N, C); of classes
    that tie, the first is named. Source: Touvron et al. 2021 (DeiT), arXiv 2012.12877; weight 0.5 beside 0.5
    of the labels' cross-entropy is theirs. They give the teacher's answer a token and a classifier of its
    own; here the one classifier learns both.
    """
    return F.cross_entropy(full(step.student.logits), step.teacher.logits.argmax(1))


def logits(step: Step) -> Tensor:
    """Logit regression: mean((z_s − z_t)²) over batch and classes.

    Logits z are (N, C), unsoftened and not centred. Source: Ba & Caruana 2014, arXiv 1312.6184; they sum over
    classes, halve, and use no labels. Weight 0.5 is that half, and makes it the limit of ``kd`` at weight 1
    as T → ∞ for logits of mean 0 (Hinton et al. 2015); published scripts on CIFAR go down to 0.1.
    """
    return F.mse_loss(full(step.student.logits), full(step.teacher.logits))


def dkd(step: Step, *, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0) -> Tensor:
    """Decoupled KD: T² · mean over the batch of (α · TCKD + β · NCKD), for an image of label y:
    TCKD = KL((p_t,y, 1 − p_t,y) ‖ (p_s,y, 1 − p_s,y)), NCKD = KL(q_t ‖ q_s).

    p = softmax(z / T) of logits z (N, C); q is the softmax of the C − 1 logits z / T without that of y. An
    image's KL(p_t ‖ p_s) is TCKD + (1 − p_t,y) · NCKD: what the teacher is sure of no longer hides the rest.
    Both come from log-softmaxes, so no probability is summed up that underflowed. Source: Zhao et al. 2022,
    arXiv 2203.08679; α = 1, T = 4, weight 1 beside the full cross-entropy, and a ramp over 20 of 240 epochs
    are theirs. β = 8 is theirs for most pairs on CIFAR-100; 6 for WRN-40-2 to 16-2 or 40-1 and VGG13 to 8 or
    MobileNetV2, 2 for ResNet56 to 20 and 110 to 32: the less sure the teacher, the smaller.
    """
    pair_s, rest_s = split(full(step.student.logits) / temperature, step.labels)
    pair_t, rest_t = split(full(step.teacher.logits) / temperature, step.labels)
    both = alpha * divergence(pair_s, pair_t) + beta * divergence(rest_s, rest_t)
    return both.mean() * temperature**2


def split(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, C) as those of label or not (N, 2), and as those of the other classes, the label's masked."""
    label = labels[:, None]
    rest = logits.scatter(1, label, torch.finfo(logits.dtype).min)  # not −∞: 0 · (∞ − ∞) is no number
    return torch.cat((logits.gather(1, label), rest.logsumexp(1, keepdim=True)), dim=1), rest


def dist(step: Step, *, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0) -> Tensor:
    """Correlation of the answers: T² · (β · (1 − mean_i ρ(p_s[i, :], p_t[i, :])) + γ · (1 − mean_c
    ρ(p_s[:, c], p_t[:, c]))), ρ Pearson's correlation.

    p = softmax(z / T) of logits z (N, C). β weighs the relation of the classes within an image i, γ that of
    the batch's images within a class c; scale and shift of the answers, in which a strong teacher differs
    most, are free. Source: Huang et al. 2022, arXiv 2205.10536; β = γ = T = 1 are the defaults of the
    published code, β = γ = 2 and T = 4 its setting for CIFAR-100, weight 1 beside the full cross-entropy. A
    vector of norm below 1e-8 once centred is divided by 1e-8 instead (theirs adds 1e-8 to the product of
    both norms), so one that does not vary counts as ρ = 0.
    """
    student = (full(step.student.logits) / temperature).softmax(1)
    teacher = (full(step.teacher.logits) / temperature).softmax(1)
    within_images, within_classes = (1 - pearson(student, teacher, dim).mean() for dim in (1, 0))
    return (beta * within_images + gamma * within_classes) * temperature**2


def pearson(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """The correlation coefficients along ``dim``."""
    x, y = (F.normalize(v - v.mean(dim, keepdim=True), dim=dim, eps=1e-8) for v in (x, y))
    return (x * y).sum(dim)


def logit_std(step: Step, *, temperature: float = 2.0) -> Tensor:
    """Standardised logits: T² · KL(softmax(Z(z_t) / T) ‖ softmax(Z(z_s) / T)), summed over classes, mean over
    the batch; Z(z) = (z − mean z) / std z for each image.

    Logits z are (N, C); std² = Σ_c (z_c − mean z)² / (C − 1), the published code's. The student need not meet
    the size of the teacher's logits, only their order and proportions. Source: Sun et al. 2024, arXiv
    2403.01427; T = 2 and weight 9 beside 0.1 of the cross-entropy are theirs. The code adds 1e-7 to std; here
    √(C − 1) · std below 1e-7 is taken as 1e-7, so logits that do not vary have a gradient.
    """
    student, teacher = standardised(step.student.logits), standardised(step.teacher.logits)
    return softened(student, teacher, temperature)


def standardised(logits: Tensor) -> Tensor:
    """(N, C) with mean 0 and standard deviation 1 in each row."""
    centred = full(logits) - full(logits).mean(1, keepdim=True)
    return F.normalize(centred, eps=1e-7) * math.sqrt(logits.shape[1] - 1)


def eskd(step: Step, *, temperature: float = 4.0) -> Tensor:
    """Early-stopped KD: ``kd``, T² · KL(softmax(z_t / T) ‖ softmax(z_s / T)), summed over classes, mean over
    the batch, but its weight is 0 after two thirds of the training.

    A student much smaller than its teacher cannot meet both targets: distillation helps it early, and late it
    is in the labels' way. Logits z are (N, C). Source: Cho & Hariharan 2019, arXiv 1910.01348, who also stop
    the teacher's own training early (a recipe's epochs). They give no one time for all networks; two thirds
    is ours: the last third, where the learning rate is small, is the labels' alone. Weight 0.9 and T = 4 as
    for ``kd``; keep the weight of the labels' cross-entropy at 1, as nothing else is left after the stop.
    """
    return kd(step, temperature=temperature)


RESPONSE = {
    "kd": Entry(kd, 0.9, "response", "Hinton et al. 2015"),
    "hard-target": Entry(hard_target, 0.5, "response", "Touvron et al. 2021"),
    "logits": Entry(logits, 0.5, "response", "Ba & Caruana 2014"),
    "dkd": Entry(dkd, 1.0, "response", "Zhao et al. 2022", ramp=20 / 240),
    "dist": Entry(dist, 1.0, "response", "Huang et al. 2022"),
    "logit-std": Entry(logit_std, 9.0, "response", "Sun et al. 2024"),
    "eskd": Entry(eskd, 0.9, "response", "Cho & Hariharan 2019", stop=2 / 3),
}
