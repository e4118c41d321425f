"""A decoded set of images, as every room after ``decode`` sees it: arrays mapped into memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TRAIN, VALIDATION, TEST = 0, 1, 2
ARRAYS = ("images", "labels", "split")


@dataclass(frozen=True)
class Facts:
    """What the other rooms must know of the images without opening them."""

    classes: tuple[str, ...]
    size: int
    flip: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Decoded:
    """The arrays of a decoded set, mapped into memory."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    split: NDArray[np.int8]
    facts: Facts

    def part(self, which: int) -> NDArray[np.int64]:
        """The indices of a split."""
        return np.flatnonzero(self.split == which)


def read(path: Path) -> Decoded:
    raw = json.loads((path / "data.json").read_text())
    facts = Facts(tuple(raw["classes"]), raw["size"], raw["flip"], tuple(raw["mean"]), tuple(raw["std"]))
    images, labels, split = (np.load(path / f"{name}.npy", mmap_mode="r") for name in ARRAYS)
    return Decoded(images, labels, split, facts)
