"""Views: how each image is shown in an epoch; drawn by seed, applied to whole batches, on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.data.boxes import erased_boxes, inside, pasted_boxes, random_crops, resized_crops
from pipeline.data.decoded import Facts
from targets.errors import Refusal


class Augmentation(Protocol):
    """What a recipe says of it."""

    @property
    def crop_scale(self) -> tuple[float, float] | None: ...
    @property
    def trivialaugment(self) -> bool: ...
    @property
    def jitter(self) -> float: ...
    @property
    def cutout(self) -> int: ...
    @property
    def erasing(self) -> float: ...
    @property
    def mixup(self) -> float: ...
    @property
    def cutmix(self) -> float: ...


# Their names, as keys of a recipe.
KEYS = tuple(name for name, value in vars(Augmentation).items() if isinstance(value, property))


@dataclass(frozen=True)
class Views:
    """Of N images."""

    corners: Tensor  # (N, 2) int64: row and column where the crop of a padded image begins
    mirrored: Tensor  # (N,) bool
    crops: Tensor | None = None  # (N, 4) int64: boxes that are scaled to the whole image, instead
    choices: Tensor | None = None  # (N, 2) of TrivialAugment
    jitters: Tensor | None = None  # (N, 6) of the colour jitter
    holes: Tensor | None = None  # (N, 2) int64: row and column of the middle of what is covered
    erased: Tensor | None = None  # (N, 4) int64: boxes that are covered
    partners: Tensor | None = None  # (N,) int64: which other image is mixed in
    shares: Tensor | None = None  # (N,) float32: how much remains of the image itself
    pasted: Tensor | None = None  # (N, 4) int64: boxes of the other image; of height 0 the whole is mixed in

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
    views = Views(corners, torch.rand(count, generator=generator) < half)
    if settings.cutout:
        views = replace(views, holes=positions(sides, count, generator))
    if settings.mixup or settings.cutmix:
        views = replace(views, **mixtures(count, sides, settings, generator))
    if settings.crop_scale:
        views = replace(views, crops=random_crops(count, sides, settings.crop_scale, generator))
    if settings.erasing:
        views = replace(views, erased=erased_boxes(count, sides, settings.erasing, generator))
    if settings.jitter:
        from pipeline.data.colours import jitters

        views = replace(views, jitters=jitters(count, settings.jitter, generator))
    if settings.trivialaugment:
        from pipeline.data.colours import trivial_choices

        views = replace(views, choices=trivial_choices(count, generator))
    return views


def mixtures(
    count: int, sides: tuple[int, int], settings: Augmentation, generator: torch.Generator
) -> dict[str, Tensor]:
    """For each image another one, and its share; with mixup and cutmix on, each image gets one of the two."""
    # Any image but itself; torch draws from a beta distribution with no generator of one's own.
    partners = (torch.arange(count) + torch.randint(1, count, (count,), generator=generator)) % count
    alphas = {"mixup": settings.mixup, "cutmix": settings.cutmix}
    betas = np.random.default_rng(generator.initial_seed())
    shares = {
        name: torch.from_numpy(betas.beta(alpha, alpha, count)).float()
        for name, alpha in alphas.items()
        if alpha
    }
    if "cutmix" not in shares:
        return {"partners": partners, "shares": shares["mixup"]}
    boxes, remaining = pasted_boxes(shares["cutmix"], sides, generator)
    if "mixup" in shares:
        whole = torch.rand(count, generator=generator) < 0.5
        boxes = torch.where(whole[:, None], 0, boxes)
        remaining = torch.where(whole, shares["mixup"], remaining)
    return {"partners": partners, "shares": remaining, "pasted": boxes}


def mix(images: Tensor, added: Tensor, shares: Tensor, boxes: Tensor | None) -> Tensor:
    """Images (N, C, H, W), the other's share added to each; or the other's box, where there is one."""
    mixed = torch.lerp(added, images, shares[:, None, None, None])
    if boxes is None:
        return mixed
    other = inside(boxes, (images.shape[2], images.shape[3]))[:, None]
    return torch.where(
        (boxes[:, 2] * boxes[:, 3] > 0)[:, None, None, None], torch.where(other, added, images), mixed
    )


def augmented(images: Tensor, views: Views, cutout: int, colour: Tensor) -> Tensor:
    """Images (N, H, W, C) uint8 in their views, on their device; not mixed yet."""
    if views.crops is not None:
        images = resized_crops(images, views.crops, views.mirrored)
    else:
        images = crop_and_flip(images, views.corners, views.mirrored)
    if views.choices is not None:
        from pipeline.data.colours import trivially_augmented

        images = trivially_augmented(images, views.choices)
    if views.jitters is not None:
        from pipeline.data.colours import jittered

        images = jittered(images, views.jitters)
    if views.holes is not None:
        images = cut_out(images, views.holes, cutout, colour)
    if views.erased is not None:
        covered = inside(views.erased, (images.shape[1], images.shape[2]))
        images = torch.where(covered[..., None], colour, images)
    return images


def positions(ends: Sequence[int], count: int, generator: torch.Generator) -> Tensor:
    """Rows and columns (count, 2), each below its end."""
    if ends[0] == ends[1]:  # in one call, as ever: a seed's draws for square images are what they were
        return torch.randint(0, ends[0], (count, 2), generator=generator)
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
