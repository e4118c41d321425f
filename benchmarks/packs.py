"""Images in .npz files, as a set: x_train, y_train, x_test, y_test (uint8 NHWC), in one file or several."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pipeline.data.catalogue import Images
from targets.errors import Refusal

NAMES = ("x_train", "y_train", "x_test", "y_test")
HELP = f".npz with {', '.join(NAMES)} (uint8 NHWC); repeat."
Files = Annotated[list[Path] | None, typer.Option(exists=True, dir_okay=False, help=HELP)]


def load(files: Iterable[str | Path]) -> Images:
    """The images of some files as one set; what is of the test split says so. A recipe's factory can be this."""
    parts: dict[str, list[Any]] = {name: [] for name in NAMES}
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            for name in parts:
                parts[name] += [arrays[name]] if name in arrays.files else []
    if any(not found for found in parts.values()):
        raise Refusal(f"--data: {', '.join(NAMES)} are needed, in one file or several")
    joined = {name: np.concatenate(found) for name, found in parts.items()}
    labels = np.concatenate([joined["y_train"], joined["y_test"]]).astype(np.int64)
    is_test = np.arange(len(labels)) >= len(joined["y_train"])
    pictures = np.concatenate([joined["x_train"], joined["x_test"]])
    return Images(pictures, labels, tuple(map(str, range(int(labels.max()) + 1))), is_test)
