"""What the runner feeds a file: every layout, order of channels and range, against a plain restatement."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from targets.runner.images import Images

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENDS = {"0..1": (0.0, 1.0), "0..255": (0.0, 255.0), "-1..1": (-1.0, 1.0)}
FLOATS = [
    ("nchw-float32", channels, values, normalised)
    for channels, values, normalised in itertools.product(("rgb", "bgr", "grey"), ENDS, (False, True))
    if not (normalised and values == "-1..1")
]
BYTES = [("nhwc-uint8", channels, "0..255", False) for channels in ("rgb", "bgr", "grey")]


def restated(image: NDArray[np.uint8], row: int, column: int, channel: int, feed: dict[str, Any]) -> float:
    """One value of one image (H, W, C), from the words of the contract, in double precision."""
    stored = {"rgb": channel, "bgr": 2 - channel, "grey": 0}[feed["channels"]]
    unit = int(image[row, column, stored]) / 255
    low, high = ENDS[feed["range"]]
    if feed["mean"]:
        unit = (unit - feed["mean"][stored]) / feed["std"][stored]
    return low + (high - low) * unit


@pytest.mark.parametrize(("layout", "channels", "values", "normalised"), FLOATS + BYTES)
def test_values_are_what_the_contract_says(
    tmp_path: Path, layout: str, channels: str, values: str, normalised: bool
) -> None:
    count = 1 if channels == "grey" else 3
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 6, count), dtype=np.uint8)
    pixels[0, 0, 0], pixels[0, 0, 1] = 0, 255
    np.save(tmp_path / "images.npy", pixels)
    feed = {"layout": layout, "channels": channels, "range": values, "mean": (), "std": ()}
    if normalised:
        feed |= {"mean": MEAN[:count], "std": STD[:count]}
    batch = Images(str(tmp_path / "images.npy"), feed).batch(1, 2)
    kind = np.uint8 if layout == "nhwc-uint8" else np.float32
    assert batch.dtype == kind and batch.flags["C_CONTIGUOUS"]
    first = layout == "nchw-float32"
    assert batch.shape == ((2, count, 4, 6) if first else (2, 4, 6, count))
    for image, found in zip(pixels[1:], batch, strict=True):
        for row, column, channel in np.ndindex(4, 6, count):
            expected = restated(image, row, column, channel, feed)
            value = found[channel, row, column] if first else found[row, column, channel]
            assert value == pytest.approx(expected, rel=1e-5, abs=1e-5 * max(map(abs, ENDS[values])))
