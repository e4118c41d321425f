"""Intervals against independent computations, such as scipy's exact test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from targets.stats.intervals import LOOK_LEVEL, across, middle, quantile, ratio, share


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_share_is_the_exact_interval(trial: tuple[int, int]) -> None:
    right, count = trial
    found = share(right, count)
    exact = stats.binomtest(right, count).proportion_ci(0.95, method="exact")
    assert found.value == right / count
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.995])
def test_share_bounds_leave_half_the_rest_in_each_tail(level: float) -> None:
    """By definition: at a bound, what was seen or more extreme has half the probability left."""
    found, tail = share(7, 40, level), (1 - level) / 2
    assert stats.binom.sf(6, 40, found.low) == pytest.approx(tail)
    assert stats.binom.cdf(7, 40, found.high) == pytest.approx(tail)


def test_share_of_all_and_of_none_reach_the_ends() -> None:
    assert share(0, 20).low == 0.0 and share(0, 20).value == 0.0
    assert share(20, 20).high == 1.0 and share(20, 20).value == 1.0


@given(st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=8))
def test_across_is_students_interval_of_the_logarithms(values: list[float]) -> None:
    found, logs = across(values), np.log(values)
    assert found.value == pytest.approx(stats.gmean(values))
    spread = stats.sem(logs)
    if spread > 1e-12:
        low, high = stats.t.interval(0.95, len(values) - 1, logs.mean(), spread)
        # In logarithms: two values far apart have an interval of hundreds of decades.
        assert math.log(found.low) == pytest.approx(low, abs=1e-9) if low > -700 else found.low < 1e-300
        assert math.log(found.high) == pytest.approx(high, abs=1e-9)


def test_across_one_process_is_an_unbounded_interval() -> None:
    found = across([0.25])
    assert found.value == pytest.approx(0.25)
    assert (found.low, found.high) == (0.0, math.inf)


def test_quantile_pools_the_blocks_of_a_process_then_averages_processes() -> None:
    first = [[0.001, 0.002], [0.003, 0.004, 0.005]]
    second = [[4 * second for second in block] for block in first]
    same = quantile([first, first], 0.5)
    assert (same.value, same.low, same.high) == pytest.approx((0.003, 0.003, 0.003))
    assert quantile([first, second], 0.5).value == pytest.approx(0.006)  # the geometric mean of 3 and 12 ms
    assert quantile([first, first], 0.99).value == pytest.approx(0.00496)


def test_ratio_is_of_the_paired_blocks_so_drift_falls_out() -> None:
    """Each round the machine slows down by half; the candidate stays twice as fast."""
    rounds = [1.5**turn for turn in range(6)]
    reference = [[[second, second * 1.1, second * 9] for second in rounds]] * 3
    candidate = [[[second / 2 for second in block] for block in process] for process in reference]
    found = ratio(candidate, reference)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_ratio_takes_each_process_as_one_sample() -> None:
    reference = [[[1.0], [1.0], [1.0]]] * 2
    candidate = [[[0.5], [0.5], [8.0]], [[2.0], [2.0], [2.0]]]
    assert ratio(candidate, reference) == across([0.5, 2.0])


def test_ratio_refuses_unequal_numbers_of_processes() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        ratio([[[1.0]]], [[[1.0]], [[1.0]]])


@given(st.integers(0, 2**31))
def test_ratio_with_the_roles_exchanged_is_the_inverse(seed: int) -> None:
    generator = np.random.default_rng(seed)
    one, two = (generator.lognormal(0, 0.2, (5, 9, 4)).tolist() for _ in range(2))
    found, inverse = ratio(one, two), ratio(two, one)
    assert (found.value, found.low, found.high) == pytest.approx(
        (1 / inverse.value, 1 / inverse.high, 1 / inverse.low)
    )


@pytest.mark.parametrize("level", [0.95, LOOK_LEVEL])
@pytest.mark.parametrize("count", [1, 5, 10, 11, 14, 20, 40])
def test_middle_holds_the_median_of_any_distribution(count: int, level: float) -> None:
    """By counting: with k of n values below the median (binomial, a half), it is outside where k is extreme."""
    found = middle([float(number) for number in range(count)], level)
    low, high = (round(x) if math.isfinite(x) else None for x in (found.low, found.high))
    if high is None:
        assert 2 * 0.5**count > 1 - level, "no interval of so few values has that level"
        return
    missed = sum(stats.binom.pmf(k, count, 0.5) for k in range(count + 1) if not low < k <= high)
    assert missed <= 1 - level
    narrower = sum(stats.binom.pmf(k, count, 0.5) for k in range(count + 1) if not low + 1 < k <= high - 1)
    assert narrower > 1 - level, "it is the narrowest of its kind"
    assert found.value == (count - 1) / 2


def test_middle_is_not_fooled_by_processes_that_happen_to_be_alike() -> None:
    """A tail with two modes: Student's interval of five alike processes is narrow, and wrong."""
    alike = [1.0, 1.0001, 0.9999, 1.0, 1.0002]
    assert across(alike, LOOK_LEVEL).high < 1.01
    assert middle(alike, LOOK_LEVEL).high == math.inf
