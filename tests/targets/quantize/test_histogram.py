"""The scale that calibration chooses, against trying every limit on the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.quantize.histogram import LIMITS, Histogram

STEPS = 127


def error(values: np.ndarray, limit: float) -> float:
    scale = limit / STEPS
    return float(((np.clip(np.rint(values / scale), -STEPS, STEPS) * scale - values) ** 2).sum())


@given(
    st.integers(0, 2**32 - 1),
    st.floats(1e-3, 1e3),
    st.sampled_from(["normal", "laplace", "uniform", "outlier"]),
)
def test_the_scale_costs_hardly_more_than_the_best(seed: int, size: float, kind: str) -> None:
    random = np.random.default_rng(seed)
    draw = {"uniform": random.uniform, "outlier": random.normal}.get(kind, getattr(random, kind, None))
    assert draw is not None
    values = draw(-1, 1, 4000) if kind == "uniform" else draw(0, 1, 4000)
    if kind == "outlier":
        values[:3] = 40.0
    values = (size * values).astype(np.float32)
    seen = Histogram()
    for part in np.split(values, [100, 1500]):
        seen.add(part)
    found = error(values, seen.scale(STEPS) * STEPS)
    largest = float(np.abs(values).max())
    best = min(error(values, share * largest) for share in np.linspace(0.2, 1, 100))
    assert found <= 1.03 * best


def test_counts_do_not_depend_on_the_order_of_the_batches() -> None:
    small, large = np.linspace(0, 1, 1000), np.linspace(0, 8, 1000)
    one, other = Histogram(), Histogram()
    for x in (small, large):
        one.add(x)
    for x in (large, small):
        other.add(x)
    assert one.counts.sum() == other.counts.sum() == 2000
    assert one.scale(STEPS) == pytest.approx(other.scale(STEPS), rel=0.02)


def test_zeros_have_a_scale_and_what_is_no_number_is_refused() -> None:
    seen = Histogram()
    seen.add(np.zeros(10))
    assert seen.scale(STEPS) == 1.0
    for value in ("nan", "inf"):
        with pytest.raises(ValueError, match="on calibration images"):
            seen.add(np.array([1.0, float(value)]))


def test_each_limit_is_what_its_name_says() -> None:
    """Of 99,990 sizes up to 1 and ten of 50: the largest, and a size between the two kinds."""
    seen = Histogram()
    seen.add(np.concatenate([np.linspace(0, 1, 99_990), np.full(10, 50.0)]))
    found = {name: limit(seen, STEPS) for name, limit in LIMITS.items()}
    assert found["largest"] == 50.0
    assert found["percentile"] == pytest.approx(1.0, abs=2 * seen.top / 2048)
    assert found["squared error"] >= 0.2 * 50
    assert seen.scale(STEPS, LIMITS["largest"]) == 50 / STEPS
