"""Changes of colour and of form, drawn by a seed as torchvision draws them and made by torchvision's functions.

One image after another, as each has its own: they work on the processor and on a GPU alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

BINS = 31  # of the strengths of TrivialAugment

JITTER: tuple[Callable[[Tensor, float], Tensor], ...] = (
    vision.adjust_brightness,
    vision.adjust_contrast,
    vision.adjust_saturation,
)


def jitters(count: int, strength: float, generator: torch.Generator) -> Tensor:
    """(count, 6): factors of brightness, contrast and saturation, and the order in which they are applied.

    As torchvision's ColorJitter(strength, strength, strength) draws them; the hue stays.
    """
    low, high = max(0.0, 1 - strength), 1 + strength
    factors = low + (high - low) * torch.rand(count, len(JITTER), generator=generator)
    order = torch.rand(count, len(JITTER), generator=generator).argsort(1)
    return torch.cat([factors, order.float()], 1)


def jittered(images: Tensor, drawn: Tensor) -> Tensor:
    """(N, H, W, C) uint8, each by its own row of ``jitters``."""
    return each(images, drawn, jitter)


def jitter(image: Tensor, row: Sequence[float]) -> Tensor:
    for which in row[len(JITTER) :]:
        image = JITTER[int(which)](image, row[int(which)])
    return image


def shear(image: Tensor, across: float, down: float) -> Tensor:
    degrees = [math.degrees(math.atan(value)) for value in (across, down)]
    sheared: Tensor = vision.affine(
        image, angle=0.0, translate=[0, 0], scale=1.0, shear=degrees, center=[0, 0]
    )
    return sheared


def shift(image: Tensor, across: float, down: float) -> Tensor:
    by = [int(across), int(down)]
    shifted: Tensor = vision.affine(image, angle=0.0, translate=by, scale=1.0, shear=[0.0, 0.0])
    return shifted


# Each operation with its weakest and strongest value, and whether a half of the images get the opposite.
WIDE: tuple[tuple[Callable[[Tensor, float], Tensor], float, float, bool], ...] = (
    (lambda image, _: image, 0.0, 0.0, False),
    (lambda image, value: shear(image, value, 0), 0.0, 0.99, True),
    (lambda image, value: shear(image, 0, value), 0.0, 0.99, True),
    (lambda image, value: shift(image, value, 0), 0.0, 32.0, True),
    (lambda image, value: shift(image, 0, value), 0.0, 32.0, True),
    (vision.rotate, 0.0, 135.0, True),
    (lambda image, value: vision.adjust_brightness(image, 1 + value), 0.0, 0.99, True),
    (lambda image, value: vision.adjust_saturation(image, 1 + value), 0.0, 0.99, True),
    (lambda image, value: vision.adjust_contrast(image, 1 + value), 0.0, 0.99, True),
    (lambda image, value: vision.adjust_sharpness(image, 1 + value), 0.0, 0.99, True),
    (lambda image, value: vision.posterize(image, round(value)), 8.0, 2.0, False),
    (lambda image, value: vision.solarize(image, 255 * value), 1.0, 0.0, False),
    (lambda image, _: vision.autocontrast(image), 0.0, 0.0, False),
    (lambda image, _: vision.equalize(image), 0.0, 0.0, False),
)


def trivial_choices(count: int, generator: torch.Generator) -> Tensor:
    """(count, 2): an operation and its strength for each image, as torchvision's TrivialAugmentWide draws them.

    Source: Müller & Hutter 2021, arXiv 2103.10158.
    """
    which = torch.randint(0, len(WIDE), (count,), generator=generator)
    strength = torch.randint(0, BINS, (count,), generator=generator)
    opposite = torch.rand(count, generator=generator) < 0.5
    values = torch.stack([torch.linspace(weakest, strongest, BINS) for _, weakest, strongest, _ in WIDE])
    signed = torch.tensor([row[3] for row in WIDE])
    sign = torch.where(opposite & signed[which], -1.0, 1.0)
    return torch.stack([which.float(), sign * values[which, strength]], 1)


def trivially_augmented(images: Tensor, choices: Tensor) -> Tensor:
    """(N, H, W, C) uint8, each by its own row of ``trivial_choices``."""
    return each(images, choices, lambda image, row: WIDE[int(row[0])][0](image, row[1]))


def each(images: Tensor, rows: Tensor, change: Callable[[Tensor, Sequence[float]], Tensor]) -> Tensor:
    """Every image (H, W, C) changed by its row, as torchvision has images: (C, H, W)."""
    changed = [change(image.permute(2, 0, 1), row) for image, row in zip(images, rows.tolist(), strict=True)]
    return torch.stack(changed).permute(0, 2, 3, 1)
