"""The course of a loss's weight over a training."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the losses are torch's")

from pipeline.losses import Term


@pytest.mark.parametrize(
    ("ramp", "stop", "weights"),
    [
        (0.0, 1.0, (2.0, 2.0, 2.0)),
        (0.5, 1.0, (0.0, 1.0, 2.0)),
        (0.0, 0.25, (2.0, 0.0, 0.0)),
        (0.5, 0.75, (0.0, 1.0, 0.0)),
    ],
)
def test_a_weight_rises_over_its_ramp_and_ends_at_its_stop(
    ramp: float, stop: float, weights: tuple[float, ...]
) -> None:
    term = Term(lambda step: torch.zeros(()), 2.0, ramp, stop)
    assert tuple(term.weight_at(progress) for progress in (0.0, 0.25, 0.75)) == weights
