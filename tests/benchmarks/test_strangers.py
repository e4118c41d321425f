"""One construct of another's through every step that runs here: the benchmark calls the stages' own functions."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the steps are the workshop's")

from benchmarks.strangers.steps import STEPS, through
from benchmarks.strangers.table import summary
from support.tiny import one_thread  # noqa: F401  (for every test here)

HERE = tuple(name for name in STEPS if name != "tflite")  # whose converter takes long to load


def test_a_construct_goes_through_every_step() -> None:
    pytest.importorskip("openvino", reason="a step builds for it")
    cells = dict(through("HardSwish", HERE))
    assert {name: cell["state"] for name, cell in cells.items()} == dict.fromkeys(HERE, "ok"), cells
    assert cells["onnxruntime"]["int8"] == cells["onnxruntime"]["of"] == cells["foreign"]["of"] > 0


def test_a_subject_that_ended_before_its_first_step_was_run_and_is_not_ok() -> None:
    cells = {"check": {"state": "ok"}}
    rows = {
        "whole": {"cells": cells},
        "late": {"cells": cells, "ended": "not done in 240 s"},
        "at once": {"cells": {}, "ended": "the process ended with -11"},
        "skipped": {"cells": {}, "skipped": "timm is not installed"},
    }
    names = [*rows, "never"]
    assert summary(names, rows) == "1 of 3 ok in every step; 2 of 5 not run."
