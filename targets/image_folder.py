"""Images in folders, one folder a class: found, read one at a time, scaled and cut to the size of a network."""

from __future__ import annotations

import math
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from targets.errors import Refusal, Unmeasurable
from targets.regular_file import regular_file

# Whatever a file is called: Pillow's other formats have more code, one of them (EPS) a program of its own.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")

MOST_PIXELS = 1 << 26  # of an image that is scaled, before its middle is cut: 256 MB

Size = tuple[int, int]  # height, width
Resize = int | Size  # the shorter side, or height and width
Interpolation = Literal["bilinear", "bicubic"]
MODES = {"rgb": "RGB", "grey": "L"}  # of PIL


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


def unread(root: Path, read: Iterable[Path]) -> list[Path]:
    """What lies in a folder beside the images that are read of it: other kinds of files, folders without any."""
    kept = {one for path in read for one in (path, *path.parents)}

    def within(folder: Path) -> Iterator[Path]:
        for path in sorted(one for one in folder.iterdir() if not one.name.startswith(".")):
            if path not in kept:
                yield path
            elif path.is_dir():
                yield from within(path)

    return list(within(root))


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says that it is to be seen; as it is where there is none to be read."""
    image.load()
    try:
        image.getexif()
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return image
    return ImageOps.exif_transpose(image)


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
                return upright(image).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise Refusal(f"{path}: broken image ({error}); mend or remove it") from None

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True)
class Decoding:
    """How an image becomes an array of uint8: scaled, then its middle of ``size`` cut out.

    ``resize`` is what it is scaled to: its shorter side, its proportions kept, or (height, width); None: as small as
    still covers ``size``. Equal to torchvision's Resize and CenterCrop of a PIL image. Raises Refusal for a
    ``resize`` that does not cover ``size``.
    """

    size: Size
    channels: Literal["rgb", "grey"] = "rgb"
    resize: Resize | None = None
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.resize is None:
            return
        sides = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        # An image may be higher than wide or wider than high: its shorter side must do for both.
        needed = (max(self.size), max(self.size)) if isinstance(self.resize, int) else self.size
        if any(side < least for side, least in zip(sides, needed, strict=True)):
            size = f"{self.size[0]}x{self.size[1]}"
            raise Refusal(f"resize = {told(self.resize)} does not cover images of {size}; give a larger one")

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Decoding:
        """Of JSON, which has lists for pairs."""
        pairs = {name: tuple(value) for name, value in raw.items() if isinstance(value, list)}
        return cls(**{**raw, **pairs})

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return (*self.size, 1 if self.channels == "grey" else 3)

    def scaled(self, height: int, width: int) -> Size:
        """The height and width that an image is scaled to."""
        if isinstance(self.resize, tuple):
            return self.resize
        high, wide = (self.resize, self.resize) if self.resize is not None else self.size
        if height * wide <= width * high:
            return high, int(high * width / height)
        return int(wide * height / width), wide

    def at(self, size: Size) -> Decoding:
        """The same for images of another size: the same share of them is cut off."""
        if self.resize is None:
            return replace(self, size=size)
        if isinstance(self.resize, int):
            return replace(self, size=size, resize=math.floor(max(size) * self.resize / max(self.size)))
        sides = zip(size, self.resize, self.size, strict=True)
        high, wide = (math.floor(side * scaled / own) for side, scaled, own in sides)
        return replace(self, size=size, resize=(high, wide))

    def __str__(self) -> str:
        scaled = f", resize = {told(self.resize)}" if self.resize is not None else ""
        return f"size = {told(self.size)}{scaled}, {self.interpolation}"

    def __call__(self, image: Any) -> NDArray[np.uint8]:
        """(height, width, channels) of a PIL image or an array (H, W, 3) or (H, W, 1)."""
        picture = image if isinstance(image, Image.Image) else to_picture(np.asarray(image, dtype=np.uint8))
        picture = picture.convert(MODES[self.channels])
        high, wide = self.scaled(picture.height, picture.width)
        if high * wide > MOST_PIXELS:
            told = f"an image of {picture.height}x{picture.width} (height x width) would become {high}x{wide}"
            raise Refusal(f"{told} before its middle is cut; crop or remove it")
        picture = picture.resize((wide, high), Image.Resampling[self.interpolation.upper()])
        top, left = (round((all_ - side) / 2) for all_, side in zip((high, wide), self.size, strict=True))
        picture = picture.crop((left, top, left + self.size[1], top + self.size[0]))
        return np.asarray(picture, dtype=np.uint8).reshape(self.shape)


def to_picture(array: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def told(sides: Resize) -> str:
    """As a recipe writes it: 256, or [48, 192]."""
    return str(sides if isinstance(sides, int) else list(sides))


def save_images(images: Iterable[Any], count: int, decoding: Decoding, path: Path) -> None:
    """Write ``count`` images, one at a time, as an .npy array (count, height, width, channels) of uint8.

    Written, not mapped: on a full disk a mapping would end the process without a word.
    """
    check_room(path, count * math.prod(decoding.shape))
    with path.open("wb") as file:
        begin_array(file, (count, *decoding.shape))
        for image in images:
            file.write(decoding(image).tobytes())


def check_room(path: Path, needed: int) -> None:
    """Raises Unmeasurable where the disk of a file that is to be written has fewer bytes free."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        what = f"{needed / 1e9:,.1f} GB of decoded images, and {free / 1e9:,.1f} GB are free"
        raise Unmeasurable(f"{path.parent}: {what}; free some, or take another disk (TMPDIR, --store)")


def begin_array(file: IO[bytes], shape: tuple[int, ...], numbers: str = "|u1") -> None:
    """What an .npy file begins with; its numbers follow. ``numbers`` is their kind in numpy's letters."""
    np.lib.format.write_array_header_1_0(file, {"descr": numbers, "fortran_order": False, "shape": shape})
