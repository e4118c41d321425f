"""An .npy file that somebody else has written, read without trust in what its header says."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.errors import first_line


def open_array(path: Path) -> NDArray[Any]:
    """Mapped, so that a header cannot ask for more memory than the file has bytes. Raises ValueError."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (EOFError, SyntaxError, TypeError, OverflowError, RecursionError, ValueError, TokenError) as error:
        raise ValueError(f"{path.name} is no array ({type(error).__name__}: {first_line(error)})") from None


def read_array(path: Path, kinds: str) -> NDArray[Any]:
    """An array of numbers of some kinds, in numpy's letters, the first dimension counting them. Raises ValueError."""
    array = open_array(path)
    if array.ndim == 0 or array.dtype.kind not in kinds:
        raise ValueError(f"{path.name} is not an array of numbers")
    return np.array(array)


def read_answers(path: Path, images: int) -> NDArray[np.float32]:
    """A row an image. Raises ValueError."""
    answers: NDArray[np.float32] = read_array(path, "f")
    if len(answers) != images or answers.ndim < 2 or answers.size == 0:
        raise ValueError(f"{path.name} holds answers of shape {answers.shape} to {images} images")
    return answers
