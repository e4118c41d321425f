"""One construct of another's through every step that runs here: the benchmark calls the stages' own functions."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the steps are the workshop's")

from benchmarks.strangers.steps import STEPS, through
from support.tiny import one_thread  # noqa: F401  (for every test here)

HERE = tuple(name for name in STEPS if name != "tflite")  # whose converter takes long to load


def test_a_construct_goes_through_every_step() -> None:
    pytest.importorskip("openvino", reason="a step builds for it")
    cells = dict(through("HardSwish", HERE))
    assert {name: cell["state"] for name, cell in cells.items()} == dict.fromkeys(HERE, "ok"), cells
    assert cells["onnxruntime"]["int8"] == cells["onnxruntime"]["of"] == cells["foreign"]["of"] > 0
