"""The images of a quantization: part of them sets the grid, the rest asks the questions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from targets.decoding import decode_files, tell_unread
from targets.errors import Refusal
from targets.gate.gate import examples
from targets.image_folder import SUFFIXES, class_folders
from targets.regular_file import regular_file
from targets.spec.contract import Contract

FEWEST = 8  # images of either part
Labels = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """Decoded images in a file, and their labels where the folders tell them."""

    file: Path
    labels: Labels | None


@dataclass(frozen=True)
class Parts:
    calibration: Part
    test: Part
    classes: tuple[str, ...]  # empty where no folder tells them


def split(model: onnx.ModelProto, contract: Contract, folder: Path, calibration: int, work: Path) -> Parts:
    """Decode the images of a folder into ``work``; every so many one of them is for calibration.

    Raises Refusal for too few images, or for classes that the file does not answer.
    """
    paths, labels, classes = found_images(model, contract, folder)
    chosen = spread(len(paths), min(calibration, len(paths) // 2))
    if len(chosen) < FEWEST:
        told = f"{len(paths)} images; at least {2 * FEWEST} are needed to set a grid and judge it"
        raise Refusal(f"{folder}: {told}")
    parts = list[Part]()
    for name, which in (("calibration", chosen), ("test", np.setdiff1d(np.arange(len(paths)), chosen))):
        decode_files([paths[i] for i in which], contract.decoding, work / f"{name}.npy", name)
        parts.append(Part(work / f"{name}.npy", None if labels is None else labels[which]))
    return Parts(parts[0], parts[1], classes)


def found_images(
    model: onnx.ModelProto, contract: Contract, folder: Path
) -> tuple[list[Path], Labels | None, tuple[str, ...]]:
    """Images in class folders with their labels, or images of one folder without any."""
    flat = flat_images(folder)
    if flat:
        tell_unread(folder, flat)
        return flat, None, ()
    found = examples(model, contract, folder)
    tell_unread(folder, found.paths)
    return found.paths, found.truth, found.classes


def any_images(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The images of a folder; or, where none lies in it, those of its class folders, and their names."""
    flat = flat_images(folder)
    return (flat, ()) if flat else class_folders(folder)


def flat_images(folder: Path) -> list[Path]:
    """The images that lie in a folder itself."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [regular_file(path) for path in entries if path.suffix.lower() in SUFFIXES]


def spread(count: int, chosen: int) -> NDArray[np.int64]:
    """So many of ``count`` numbers, evenly apart."""
    return np.unique(np.linspace(0, count - 1, chosen).round().astype(np.int64))
