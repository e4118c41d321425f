"""Batches of images for training and for looking: augmented as a whole, from arrays mapped into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.images import Decoded
from targets.refusal import Refusal


@dataclass(frozen=True)
class Batch:
    images: Tensor  # (N, 3, H, W) float32 in 0..1, channels last in memory
    labels: Tensor  # (N,) int64
    indices: Tensor  # (N,) int64
    view: int = 0  # the same image in the same view is the same pixels


@dataclass(frozen=True)
class Epoch:
    """Which order, and which view of every image; equal ones give equal batches. ``seed`` draws both."""

    seed: int
    order: int
    view: int

    def generator(self, what: int, number: int) -> torch.Generator:
        return torch.Generator().manual_seed((2 * self.seed + what) * 1_000_003 + number)


def training_batches(
    data: Decoded, which: NDArray[np.int64], size: int, epoch: Epoch, rank: int = 0, ranks: int = 1
) -> Iterator[Batch]:
    """One epoch in random order, each image shifted by up to an eighth of its side and flipped if it may be.

    Of each batch a rank gets its own images, as many as any other. The rest that fills no batch is left out of
    this epoch, as batch statistics of a few images are noise.
    """
    size = whole(size, len(which), ranks)
    order = torch.randperm(len(which), generator=epoch.generator(0, epoch.order))
    views = draw(len(which), data.facts.size, data.facts.flip, epoch.generator(1, epoch.view))
    for start in range(0, len(order) - size + 1, size):
        own = order[start : start + size][rank::ranks]
        indices = which[own.numpy()]
        images = crop_and_flip(raw(data, indices), *(one[own] for one in views))
        yield make(data, indices, images, epoch.view)


def whole(size: int, images: int, ranks: int) -> int:
    """A batch that so many images fill and all ranks share alike. Raises Refusal where it is none."""
    shared = min(size, images) // ranks * ranks
    if shared == 0:
        raise Refusal(f"{images} training images in batches of {size} are too few for {ranks} processes")
    return shared


def plain_batches(data: Decoded, which: NDArray[np.int64], size: int) -> Iterator[Batch]:
    """Every image once, in order, untouched."""
    for start in range(0, len(which), size):
        indices = which[start : start + size]
        yield make(data, indices, raw(data, indices))


def raw(data: Decoded, indices: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.asarray(data.images[indices]))


def make(data: Decoded, indices: NDArray[np.int64], images: Tensor, view: int = 0) -> Batch:
    labels = torch.from_numpy(np.asarray(data.labels[indices]))
    return Batch(to_unit(images), labels, torch.from_numpy(indices), view)


def to_unit(images: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 → (N, 3, H, W) float32 in 0..1; the memory stays channels last."""
    return images.permute(0, 3, 1, 2).float() / 255


def draw(count: int, side: int, flip: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Of each of so many images: where its crop begins, (N, 2) rows and columns; whether it is mirrored, (N,)."""
    corners = torch.randint(0, 2 * (side // 8) + 1, (count, 2), generator=generator)
    mirrored = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)
    return corners, mirrored


def crop_and_flip(images: Tensor, corners: Tensor, mirrored: Tensor) -> Tensor:
    """Zero padding of an eighth a side, a crop back to the size, a mirror for some; (N, H, W, 3) uint8.

    With what ``draw`` gives: the distribution of torchvision's RandomCrop(size, padding=size // 8) and
    RandomHorizontalFlip.
    """
    count, side = images.shape[0], images.shape[1]
    pad = side // 8
    padded = torch.nn.functional.pad(images, (0, 0, pad, pad, pad, pad))
    span = torch.arange(side)
    rows = corners[:, :1] + span
    columns = corners[:, 1:] + torch.where(mirrored[:, None], span.flip(0), span)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
