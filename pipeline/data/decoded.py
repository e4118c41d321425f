"""A decoded set of images, as every room after ``decode`` sees it: arrays mapped into memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.image_folder import Decoding

TRAIN, VALIDATION, TEST = 0, 1, 2
ARRAYS = ("images", "labels", "split")

ImageShape = tuple[int, int, int]  # of one image as networks see it: channels, height, width


@dataclass(frozen=True)
class Facts:
    """What the other rooms must know of the images without opening them."""

    classes: tuple[str, ...]
    decoding: Decoding
    flip: bool
    mean: tuple[float, ...]  # one number a channel
    std: tuple[float, ...]
    task: str = "classification"

    @property
    def shape(self) -> ImageShape:
        height, width, channels = self.decoding.shape
        return channels, height, width


def of_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A mean or a spread of three channels for so many: of one it is the average."""
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels


@dataclass(frozen=True)
class Decoded:
    """The arrays of a decoded set, mapped into memory."""

    images: NDArray[np.uint8]
    labels: NDArray[Any]  # (N, ...), for classification (N,) int64
    split: NDArray[np.int8]
    facts: Facts

    def part(self, which: int) -> NDArray[np.int64]:
        """The indices of a split."""
        return np.flatnonzero(self.split == which)


def read(path: Path) -> Decoded:
    raw = json.loads((path / "data.json").read_text())
    # An older Retort wrote one number, of square images.
    decoding = Decoding.of(raw["decoding"]) if "decoding" in raw else Decoding((raw["size"], raw["size"]))
    mean, std, task = tuple(raw["mean"]), tuple(raw["std"]), raw.get("task", "classification")
    facts = Facts(tuple(raw["classes"]), decoding, raw["flip"], mean, std, task)
    images, labels, split = (np.load(path / f"{name}.npy", mmap_mode="r") for name in ARRAYS)
    return Decoded(images, labels, split, facts)
