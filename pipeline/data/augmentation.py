"""Views: how each image is shown in an epoch; drawn by seed, applied to whole batches, on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.data.decoded import Facts
from targets.errors import Refusal


class Augmentation(Protocol):
    """What a recipe says of it."""

    @property
    def cutout(self) -> int: ...
    @property
    def mixup(self) -> float: ...


@dataclass(frozen=True)
class Views:
    """Of N images."""

    corners: Tensor  # (N, 2) int64: row and column where the crop begins
    mirrored: Tensor  # (N,) bool
    holes: Tensor | None = None  # (N, 2) int64: row and column of the middle of what is covered
    partners: Tensor | None = None  # (N,) int64: which other image is mixed in
    shares: Tensor | None = None  # (N,) float32: how much remains of the image itself

    def of(self, rows: Tensor) -> Views:
        return self.each(lambda part: part[rows])

    def to(self, device: torch.device) -> Views:
        return self.each(lambda part: part.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> Views:
        return replace(self, **{name: change(part) for name, part in vars(self).items() if part is not None})


def draw(count: int, facts: Facts, settings: Augmentation, generator: torch.Generator) -> Views:
    """Of so many images. Raises Refusal where what is to be covered is larger than an image."""
    sides, half = facts.decoding.size, 0.5 if facts.flip else 0.0
    if settings.cutout > min(sides):
        raise Refusal(f"cutout = {settings.cutout}: the images have {min(sides)} pixels a side; cover less")
    corners = positions([2 * (side // 8) + 1 for side in sides], count, generator)
    mirrored = torch.rand(count, generator=generator) < half
    holes = partners = shares = None
    if settings.cutout:
        holes = positions(sides, count, generator)
    if settings.mixup:
        # Any image but itself; torch draws from a beta distribution with no generator of one's own.
        partners = (torch.arange(count) + torch.randint(1, count, (count,), generator=generator)) % count
        beta = np.random.default_rng(generator.initial_seed()).beta(settings.mixup, settings.mixup, count)
        shares = torch.from_numpy(beta).float()
    return Views(corners, mirrored, holes, partners, shares)


def positions(ends: Sequence[int], count: int, generator: torch.Generator) -> Tensor:
    """Rows and columns (count, 2), each below its end."""
    return torch.stack([torch.randint(0, end, (count,), generator=generator) for end in ends], 1)


def crop_and_flip(images: Tensor, corners: Tensor, mirrored: Tensor) -> Tensor:
    """Zero padding of an eighth a side, a crop back to the size, a mirror for some; (N, H, W, C) uint8.

    With what ``draw`` gives: the distribution of torchvision's RandomCrop(size, padding=size // 8) and
    RandomHorizontalFlip.
    """
    count, height, width = images.shape[:3]
    down, across = height // 8, width // 8
    padded = torch.nn.functional.pad(images, (0, 0, across, across, down, down))
    span = torch.arange(width, device=images.device)
    rows = corners[:, :1] + torch.arange(height, device=images.device)
    columns = corners[:, 1:] + torch.where(mirrored[:, None], span.flip(0), span)
    first = torch.arange(count, device=images.device)
    return padded[first[:, None, None], rows[:, :, None], columns[:, None, :]]


def cut_out(images: Tensor, holes: Tensor, size: int, colour: Tensor) -> Tensor:
    """A square of ``size`` pixels a side in one colour (C,), parts of it beyond the edge; (N, H, W, C) uint8.

    Source: DeVries & Taylor 2017, arXiv 1708.04552; with the set's mean colour, their zeros after the normalisation.
    """
    first = holes - size // 2
    spans = (torch.arange(side, device=images.device) for side in images.shape[1:3])
    rows, columns = (
        (span >= at[:, None]) & (span < at[:, None] + size)
        for span, at in zip(spans, first.unbind(1), strict=True)
    )
    return torch.where((rows[:, :, None] & columns[:, None, :])[..., None], colour, images)
