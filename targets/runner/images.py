"""The images that a model is asked, as its contract wants them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict

import numpy as np


class Feed(TypedDict):
    """What a model is fed and what it answers: of its contract, what is needed on a device."""

    layout: str
    input: str
    output: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: str
    range: str


class Images:
    """Images from an .npy file (N, H, W, C), in RGB or grey, read a batch at a time and never held whole.

    A batch is always full, as a file may take no other: after the last image the first ones follow.
    """

    def __init__(self, path: str, feed: Feed) -> None:
        self.path, self.layout, self.channels, self.range = (
            path,
            feed["layout"],
            feed["channels"],
            feed["range"],
        )
        self.mean, self.std = np.array(feed["mean"], np.float32), np.array(feed["std"], np.float32)
        mapped: np.memmap[Any, Any] = np.load(path, mmap_mode="r")
        self.shape: tuple[int, ...] = mapped.shape
        self.offset = mapped.offset
        if mapped.dtype != np.uint8:
            raise ValueError(f"{path}: images are {mapped.dtype}, not uint8")
        if not len(self):
            raise ValueError(f"{path}: no images")

    def __len__(self) -> int:
        return self.shape[0]

    def batch(self, start: int, count: int) -> np.ndarray[Any, Any]:
        """Images start … start + count, as the model's contract wants them."""
        parts, missing = [], count
        while missing:
            parts.append(self.read(start, min(missing, len(self) - start)))
            start, missing = 0, missing - len(parts[-1])
        images = np.concatenate(parts)
        if self.layout == "nchw-float32":
            images = self.values(images)
        if self.channels == "bgr":
            images = images[..., ::-1]
        if self.layout == "nchw-float32":
            images = images.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(images)

    def read(self, start: int, count: int) -> np.ndarray[Any, Any]:
        one = int(np.prod(self.shape[1:]))
        raw = np.fromfile(self.path, np.uint8, one * count, offset=self.offset + start * one)
        return raw.reshape((count,) + self.shape[1:])

    def values(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """uint8 as float32 of the contract's range; mean and std are in units of 0..1."""
        floats: np.ndarray[Any, Any] = images.astype(np.float32)
        if self.range == "-1..1":
            return floats / np.float32(127.5) - np.float32(1)
        unit = np.float32(255 if self.range == "0..1" else 1)
        floats = floats / unit
        if len(self.mean):
            floats = (floats - self.mean * (np.float32(255) / unit)) / self.std
        return floats

    def batches(self, size: int) -> Iterator[np.ndarray[Any, Any]]:
        for start in range(0, len(self), size):
            yield self.batch(start, size)
