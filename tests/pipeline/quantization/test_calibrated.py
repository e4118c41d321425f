"""Which images a grid is calibrated with: training images alone, spread over the set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="grids are torch's")

from pipeline.data.decoded import TRAIN
from pipeline.quantization import ptq
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)


@pytest.mark.parametrize("count", [1, 3, 7, 1000])
def test_calibration_images_are_spread_over_the_training_images(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, seen = tiny.write_set(tmp_path), list[np.ndarray]()  # type: ignore[type-arg]

    def batches(data: object, which: np.ndarray, size: int) -> list[object]:  # type: ignore[type-arg]
        seen.append(which)
        return []

    monkeypatch.setattr(ptq, "plain_batches", batches)
    monkeypatch.setattr(ptq, "prepare", lambda model, shape: None)
    monkeypatch.setattr(ptq, "prove_equal", lambda *_: None)
    monkeypatch.setattr(ptq, "calibrate", lambda grid, images: list(images))
    ptq.calibrated(tiny.model(), data, count)
    (which,), there = seen, data.part(TRAIN)
    places = np.searchsorted(there, which)
    assert len(which) == min(count, len(there)) and np.array_equal(there[places], which)
    assert np.all(np.diff(places) == len(there) // len(which)) or len(which) == 1
