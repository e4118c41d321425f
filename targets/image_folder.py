"""Images in folders, one folder a class: found, read one at a time, and cut to a square."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from targets.errors import Refusal
from targets.regular_file import regular_file

# Whatever a file is called: Pillow's other formats have more code, one of them (EPS) a program of its own.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")


def class_folders(root: Path) -> tuple[list[Path], tuple[str, ...]]:
    if not root.is_dir():
        raise Refusal(f"images: {root} is no folder; give one that holds a folder of images for each class")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        raise Refusal(f"images: {root} has {len(folders)} class folders; at least 2 are needed")
    paths = []
    for one in folders:
        found = sorted(p for p in one.iterdir() if p.suffix.lower() in SUFFIXES)
        for path in found:
            regular_file(path)
        if not found:
            raise Refusal(f"images: {one} has no images ({', '.join(SUFFIXES)}); fill it or remove it")
        paths += found
    return paths, tuple(p.name for p in folders)


class LazyImages(Sequence[Any]):
    """Images read from their files one at a time, so that a folder of any size fits."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        path = self.paths[index]
        try:
            with Image.open(path, formats=FORMATS) as image:
                if image.mode.startswith(("I", "F")):
                    raise Refusal(f"{path}: {image.mode} images have more than 8 bits a color; convert it")
                return image.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise Refusal(f"{path}: broken image ({error}); mend or remove it") from None

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


def fit(image: Any, size: int) -> NDArray[np.uint8]:
    """Scale the shorter side to ``size`` and cut the middle square."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image, dtype=np.uint8))
    if picture.size != (size, size):
        scale = size / min(picture.size)
        wide, high = (max(size, round(side * scale)) for side in picture.size)
        left, top = (wide - size) // 2, (high - size) // 2
        picture = picture.resize((wide, high), Image.Resampling.BILINEAR)
        picture = picture.crop((left, top, left + size, top + size))
    return np.asarray(picture, dtype=np.uint8)


def save_images(images: Iterable[Any], count: int, size: int, path: Path) -> None:
    """Write ``count`` images, one at a time, as an .npy array (count, size, size, 3) of uint8.

    Written, not mapped: on a full disk a mapping would end the process without a word.
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for image in images:
            file.write(fit(image, size).tobytes())
