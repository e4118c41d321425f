"""Distillation without training images: a generator, the second player, makes them from noise.

The set still chooses the best state by its validation images, and how many steps an epoch has; no image of it is
learnt from.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.compute import distributed
from pipeline.data.batches import Batch
from pipeline.data.decoded import ImageShape
from pipeline.losses.response import softened
from pipeline.losses.step import constant_logits, full
from pipeline.models.split_model import Parts
from pipeline.models.tapped_model import outputs
from pipeline.recipe.schema import Optimiser
from pipeline.schemes.base import Entry, Phase, Player, Scheme, Setup, held
from pipeline.schemes.requirements import above_zero, no_views, one_teacher

NO_LABEL = -100  # torch's cross-entropy leaves such an image out
WIDTH = 64  # channels before the last convolution
# AdamW without weight decay is Adam.
ADAM = Optimiser(optimizer="adamw", lr=1e-3, weight_decay=0.0, warmup=0.0)


def generator_of(shape: ImageShape, noise: int) -> nn.Sequential:
    """Noise (N, noise) → images (N, C, H, W) in 0..1: twice to a larger map, by three convolutions."""
    channels, height, width = shape
    small = (2 * WIDTH, -(-height // 4), -(-width // 4))
    return nn.Sequential(
        nn.Linear(noise, small[0] * small[1] * small[2]),
        nn.Unflatten(1, small),
        nn.BatchNorm2d(2 * WIDTH),
        nn.Upsample((-(-height // 2), -(-width // 2))),
        nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, padding=1),
        nn.BatchNorm2d(2 * WIDTH),
        nn.LeakyReLU(0.2),
        nn.Upsample((height, width)),
        nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1),
        nn.BatchNorm2d(WIDTH),
        nn.LeakyReLU(0.2),
        nn.Conv2d(WIDTH, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.Sigmoid(),
    )


class DataFree(Scheme):
    """In each step the generator learns from images of its own, if it is due, then the student from the batch."""

    def __init__(self, setup: Setup, teacher: Parts, noise: int, every: int, temperature: float) -> None:
        self.generator = generator_of(setup.data.facts.shape, noise)
        self.players = {
            "student": Player(setup.student),
            "generator": Player(self.generator, optimiser=ADAM, every=every, validated=False),
        }
        self.student, self.teacher, self.temperature = setup.student, teacher, temperature
        self.noise, self.batch = noise, max(2, setup.recipe.batch // distributed.ranks())

    @property
    def teachers(self) -> list[Parts]:
        return [self.teacher]

    def source(self, images: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            with torch.no_grad(), held([self.generator]):
                made = self.made(None)
            labels = torch.full((self.batch,), NO_LABEL, device=made.device)
            yield Batch(made, labels, torch.arange(self.batch))

    def made(self, generator: torch.Generator | None) -> Tensor:
        """A batch of images from noise that is drawn with torch's own random numbers, or with a generator's."""
        noise = torch.randn(self.batch, self.noise, generator=generator)
        images: Tensor = self.generator(noise.to(next(self.generator.parameters())))
        return full(images)

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(("generator",), self.seek), Phase(("student",), self.imitate)]

    def seek(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        return {"generator": self.value(self.made(generator))}

    @abstractmethod
    def value(self, images: Tensor) -> Tensor:
        """What the generator minimises, of images that it has made."""

    def imitate(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        target = constant_logits(self.teacher, batch.images)
        answer = full(outputs(self.student(batch.images)).logits)
        return {"student": softened(answer, target, self.temperature)}


class ZeroShot(DataFree):
    """The generator seeks images that student and teacher answer unlike."""

    def value(self, images: Tensor) -> Tensor:
        student, teacher = (full(one(images)[0]) for one in (self.student, self.teacher))
        return -softened(student, teacher, self.temperature)


class Dafl(DataFree):
    """The generator seeks images of which the teacher is sure, and of all classes alike."""

    def __init__(self, setup: Setup, teacher: Parts, noise: int, weights: tuple[float, float, float]) -> None:
        super().__init__(setup, teacher, noise, 1, 1.0)
        self.weights = weights

    def value(self, images: Tensor) -> Tensor:
        answers = self.teacher(images)
        logits = full(answers.logits)
        mean = logits.softmax(1).mean(0)
        sure = F.cross_entropy(logits, logits.argmax(1))
        active = -full(answers.pooled).abs().mean()
        balanced = (mean * mean.clamp(min=1e-8).log()).sum()
        one_hot, activation, balance = self.weights
        return one_hot * sure + activation * active + balance * balanced


def zskt(setup: Setup, *, noise: int = 100, every: int = 10, temperature: float = 1.0) -> ZeroShot:
    """The student learns from the teacher on images that a generator makes where the two answer unlike; no images.

    The student minimises T² · KL(softmax(z_t / T) ‖ softmax(z_s / T)) of logits z (N, C), summed over classes, mean
    over the batch, on generated images; the generator maximises it, in one of ``every`` steps. Source: Micaelli &
    Storkey 2019 (ZSKT), arXiv 1905.09768; ``noise`` = 100 numbers an image, ten steps of the
    student to one, and T = 1 are the published code's. Theirs takes the ten steps on one batch and adds attention
    transfer; here each step has images of its own, and that term is left out. The generator's layers and its
    optimiser, Adam at 1e-3, are ours.
    """
    above_zero(setup, "zskt", noise=noise, every=every, temperature=temperature)
    no_views(setup, "zskt")
    return ZeroShot(setup, one_teacher(setup, "zskt"), noise, every, temperature)


def dafl(
    setup: Setup,
    *,
    noise: int = 100,
    one_hot: float = 1.0,
    activation: float = 0.001,
    balance: float = 20.0,
) -> Dafl:
    """The student learns from the teacher on images that a generator makes for the teacher to be sure of; no images.

    The student minimises KL(softmax(z_t) ‖ softmax(z_s)) of logits z (N, C), summed over classes, mean over the
    batch, on generated images; the generator one_hot · (−ln softmax(z_t)[argmax z_t]) − activation · mean|f_t| +
    balance · Σ_c p̄_c ln p̄_c, f_t the teacher's pooled features (N, D), p̄ the batch's mean of softmax(z_t). Source:
    Chen et al. 2019 (DAFL), arXiv 1904.01186; the terms are the published code's, with log₁₀ in place of ln there,
    the weights those of Fang et al. 2021 (CMI) for it on CIFAR-10. A batch should be several times as large as there
    are classes. The generator's layers and its optimiser, Adam at 1e-3, are ours.
    """
    above_zero(setup, "dafl", noise=noise)
    no_views(setup, "dafl")
    return Dafl(setup, one_teacher(setup, "dafl"), noise, (one_hot, activation, balance))


DATA_FREE = {
    "zskt": Entry(
        zskt,
        "Micaelli & Storkey 2019, arXiv 1905.09768",
        "the teacher's training images are gone; a long training, as most images are noise at first",
        "a pass of generator and teacher a step, and now and then the generator's own step",
        teachers="needed",
        keys=frozenset(),
    ),
    "dafl": Entry(
        dafl,
        "Chen et al. 2019, arXiv 1904.01186",
        "the same, with few classes and large batches",
        "two passes of generator and teacher a step",
        teachers="needed",
        keys=frozenset(),
    ),
}
