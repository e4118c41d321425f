"""Batches of images for training and for looking, on the device where they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.compute.accelerator import PROCESSOR, spare
from pipeline.data.augmentation import Augmentation, Views, augmented, draw, mix
from pipeline.data.decoded import Decoded, Facts
from targets.errors import Refusal

Move = Callable[[Tensor, Views, tuple[int, int]], Tensor]


class Mixed(NamedTuple):
    """What mixup or CutMix has added to each image of a batch. Source: Zhang et al. 2018, arXiv 1710.09412."""

    labels: Tensor  # (N, ...), of the other image
    shares: Tensor  # (N,) float32, of the image itself


@dataclass(frozen=True)
class Batch:
    images: Tensor  # (N, C, H, W) float32 in 0..1
    labels: Tensor  # (N, ...), for classification (N,) int64
    indices: Tensor  # (N,) int64, in the processor's memory
    view: int = 0  # the same image in the same view is the same pixels
    mixed: Mixed | None = None
    unseen: bool = False  # this view was shown in no epoch before


@dataclass(frozen=True)
class Epoch:
    """Which order, and which view of every image; equal ones give equal batches. ``seed`` draws both."""

    seed: int
    order: int
    view: int

    def generator(self, what: int, number: int) -> torch.Generator:
        return torch.Generator().manual_seed((2 * self.seed + what) * 1_000_003 + number)

    @property
    def unseen(self) -> bool:
        """No epoch before has shown this view: they come in turn."""
        return self.order == self.view


class Pixels:
    """A set's images and labels for a device: all of them there if they fit, else fetched as they are asked for.

    ``move`` gives the labels of images that are shown in some views.
    """

    def __init__(self, data: Decoded, device: torch.device = PROCESSOR, move: Move | None = None) -> None:
        self.move, self.facts, self.device, self.far = move, data.facts, device, data.images
        self.labels = torch.from_numpy(np.array(data.labels)).to(device)
        fits = data.images.nbytes <= spare(device)
        self.near = torch.from_numpy(np.array(data.images)).to(device) if fits else None
        self.colour = mean_colour(data.facts).to(device)

    def of(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """(N, H, W, C) uint8 and the labels (N, ...); the processor does not wait for a GPU."""
        there = self.send(torch.from_numpy(indices))
        found = self.send(fetch(self.far, indices)) if self.near is None else self.near[there]
        return found, self.labels[there]

    def send(self, tensor: Tensor) -> Tensor:
        """Pinned, so that a GPU fetches it while the processor goes on."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def mean_colour(facts: Facts) -> Tensor:
    """Of a set's images, (C,) uint8: what covers a part of one."""
    return (255 * torch.tensor(facts.mean)).round().to(torch.uint8)


def training_batches(
    pixels: Pixels,
    which: NDArray[np.int64],
    batch: int,
    settings: Augmentation,
    epoch: Epoch,
    rank: int = 0,
    ranks: int = 1,
) -> Iterator[Batch]:
    """One epoch in random order, each image in a view of its own, as the settings say.

    Where they say nothing it is shifted by up to an eighth of its side, and flipped if it may be.

    Of each batch a rank gets its own images, as many as any other. The rest that fills no batch is left out of
    this epoch, as batch statistics of a few images are noise.
    """
    size = whole(batch, len(which), ranks)
    order = torch.randperm(len(which), generator=epoch.generator(0, epoch.order))
    views = draw(len(which), pixels.facts, settings, epoch.generator(1, epoch.view))
    for start in range(0, len(order) - size + 1, size):
        own = order[start : start + size][rank::ranks]
        images, labels = shown(pixels, which, views, own, settings.cutout)
        mixed = None
        if views.partners is not None and views.shares is not None:
            shares = views.shares[own].to(pixels.device)
            added, others = shown(pixels, which, views, views.partners[own], settings.cutout)
            boxes = None if views.pasted is None else views.pasted[own].to(pixels.device)
            images, mixed = mix(images, added, shares, boxes), Mixed(others, shares)
        yield Batch(images, labels, torch.from_numpy(which[own.numpy()]), epoch.view, mixed, epoch.unseen)


def shown(
    pixels: Pixels, which: NDArray[np.int64], views: Views, rows: Tensor, cutout: int
) -> tuple[Tensor, Tensor]:
    """Some rows of ``which`` in their views, (N, C, H, W) in 0..1, not mixed yet; and their labels."""
    found, labels = pixels.of(which[rows.numpy()])
    own = views.of(rows).to(pixels.device)
    if pixels.move is not None:
        labels = pixels.move(labels, own, pixels.facts.decoding.size)
    return to_unit(augmented(found, own, cutout, pixels.colour)), labels


def whole(size: int, images: int, ranks: int) -> int:
    """A batch that so many images fill and all ranks share alike. Raises Refusal where it is none."""
    shared = min(size, images) // ranks * ranks
    if shared == 0:
        raise Refusal(f"{images} training images in batches of {size} are too few for {ranks} processes")
    return shared


def plain_batches(
    data: Decoded, which: NDArray[np.int64], size: int, device: torch.device = PROCESSOR
) -> Iterator[Batch]:
    """Every image once, in order, untouched."""
    for start in range(0, len(which), size):
        indices = which[start : start + size]
        images, labels = (fetch(array, indices).to(device) for array in (data.images, data.labels))
        yield Batch(to_unit(images).contiguous(), labels, torch.from_numpy(indices))


def fetch(array: NDArray[np.generic], indices: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.asarray(array[indices]))


def to_unit(images: Tensor) -> Tensor:
    """(N, H, W, C) uint8 → (N, C, H, W) float32 in 0..1; the memory stays channels last."""
    return images.permute(0, 3, 1, 2).float() / 255
