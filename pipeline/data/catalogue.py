"""The catalogue of image sets. Each gives uint8 images, RGB or grey; the ``decode`` room splits and keeps them.

A source is ``Images``: arrays (N, H, W, 3) or (N, H, W, 1) uint8 and labels (N,) with the names of the classes, and
the test split where the set has one. torch-free; the package that brings a set is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.errors import Refusal
from targets.image_folder import LazyImages, class_folders
from targets.runner.files import cache_folder

Bytes = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """A set of images, one after another: ``images[i]`` gives (H, W, 3) or (H, W, 1) uint8 on demand."""

    images: Sequence[Any] | Bytes
    labels: Labels
    classes: tuple[str, ...]
    # True where an image belongs to the set's own test split; None: the recipe's share is cut off.
    test: NDArray[np.bool_] | None = None
    names: Sequence[str] | None = None


@dataclass(frozen=True)
class Defaults:
    """What a set is decoded and shown with where the recipe says nothing else."""

    size: int
    flip: bool
    test: float | None  # the share that is cut off as the test split; None: the set has its own
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)


@dataclass(frozen=True)
class Dataset:
    """A set of the catalogue."""

    load: Callable[[], Images]
    defaults: Defaults


def digits() -> Images:
    """1,797 handwritten digits of 8×8 grey levels (0 to 16), bundled with scikit-learn."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return Images(grey[..., None], bunch.target.astype(np.int64), tuple("0123456789"))


def torchvision_set(name: str) -> Callable[[], Images]:
    """One of torchvision's sets, downloaded by torchvision (with its own checksums) to the user's cache."""

    def load() -> Images:
        from torchvision import datasets

        root = Path(cache_folder())
        try:
            train, test = (getattr(datasets, name)(root, train=t, download=True) for t in (True, False))
        except (OSError, RuntimeError) as error:
            raise Refusal(
                f"data.name: {name} could not be had ({error}); put its files under {root}"
            ) from None
        images = np.concatenate([np.asarray(part.data) for part in (train, test)])
        if images.ndim == 3:
            images = images[..., None]
        labels = np.concatenate([np.asarray(part.targets) for part in (train, test)]).astype(np.int64)
        is_test = np.arange(len(images)) >= len(train)
        return Images(images, labels, tuple(map(str, train.classes)), is_test)

    return load


CIFAR = {"mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)}

DATASETS: dict[str, Dataset] = {
    "digits": Dataset(digits, Defaults(32, flip=False, test=0.4, mean=(0.305,) * 3, std=(0.376,) * 3)),
    "cifar10": Dataset(torchvision_set("CIFAR10"), Defaults(32, flip=True, test=None, **CIFAR)),
    "cifar100": Dataset(torchvision_set("CIFAR100"), Defaults(32, flip=True, test=None, **CIFAR)),
    "mnist": Dataset(
        torchvision_set("MNIST"), Defaults(32, flip=False, test=None, mean=(0.1,) * 3, std=(0.28,) * 3)
    ),
    "fashionmnist": Dataset(
        torchvision_set("FashionMNIST"), Defaults(32, flip=True, test=None, mean=(0.22,) * 3, std=(0.32,) * 3)
    ),
}

# A folder's or a factory's: ImageNet's mean and spread, a fifth held back as the test.
OTHER = Defaults(224, flip=True, test=0.2, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def folder(root: Path) -> Images:
    """``root/class/image.png``, or the same under ``root/train`` and ``root/test`` (or ``root/val``).

    Raises Refusal for an empty folder of a class, for fewer than two classes and for splits that differ.
    """
    splits = [root / "train", next((root / n for n in ("test", "val") if (root / n).is_dir()), root)]
    if not splits[0].is_dir():
        paths, classes = class_folders(root)
        labels = np.array([classes.index(path.parent.name) for path in paths], dtype=np.int64)
        return Images(LazyImages(paths), labels, classes, names=[str(p) for p in paths])
    if splits[1] == root:
        raise Refusal(f"data.folder: {root} has train/ but no test/ or val/ beside it; add one")
    (train, classes), (test, other) = map(class_folders, splits)
    if classes != other:
        odd = sorted(set(classes) ^ set(other))
        raise Refusal(
            f"data.folder: {root}: train and {splits[1].name} differ in classes: {', '.join(odd[:5])}"
        )
    paths = train + test
    labels = np.array([classes.index(path.parent.name) for path in paths], dtype=np.int64)
    return Images(
        LazyImages(paths), labels, classes, np.arange(len(paths)) >= len(train), list(map(str, paths))
    )
