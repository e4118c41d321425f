"""Paired drops against independent computations: a numerical Tango score, chances summed over all outcomes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from targets.stats.intervals import share
from targets.stats.paired import images_needed, paired_drop, score_drop, surprise

Z = 1.959963984540054


@st.composite
def pairs(draw: st.DrawFn) -> tuple[int, int, int]:
    """(lost, won, count): pairs that disagree one way, the other way, and all of them."""
    count = draw(st.integers(1, 2000))
    lost = draw(st.integers(0, count))
    return lost, draw(st.integers(0, count - lost)), count


@given(pairs())
def test_paired_drop_contains_its_value_and_is_mirrored_by_exchange(case: tuple[int, int, int]) -> None:
    lost, won, count = case
    found, mirrored = paired_drop(lost, won, count), paired_drop(won, lost, count)
    assert found.value == pytest.approx((lost - won) / count, abs=1e-15)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-8)


def tango_score(lost: int, won: int, count: int, drops: NDArray[np.float64]) -> NDArray[np.float64]:
    """(observed − supposed) / its standard error where the drop is as supposed, for each supposed drop.

    The three cells have the probabilities (p + drop, p, 1 − 2p − drop); p is the one of greatest likelihood.
    The likelihood is concave in p, so its slope is halved down to zero: no closed form.
    """
    least, most = np.maximum(0.0, -drops), (1 - drops) / 2
    low, high = least.copy(), most.copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(100):
            p = (low + high) / 2
            slope = np.nan_to_num(lost / (p + drops)) + np.nan_to_num(won / p)
            rising = slope > 2 * (count - lost - won) / (1 - drops - 2 * p)
            low, high = np.where(rising, p, low), np.where(rising, high, p)
        variance = count * (2 * low + drops - drops**2)
        return np.asarray((lost - won - count * drops) / np.sqrt(variance))


def tango_by_grid(lost: int, won: int, count: int) -> tuple[float, float]:
    """The ends of the set of drops that the score does not reject: a coarse grid, then a fine one."""
    start, stop = -1.0, 1.0
    edges = []
    for side in (0, -1):
        low, high = start, stop
        for _ in range(3):
            drops = np.linspace(low, high, 4001)[1:-1]
            kept = drops[np.abs(tango_score(lost, won, count, drops)) <= Z]
            step = drops[1] - drops[0]
            low, high = float(kept[side]) - step, float(kept[side]) + step
        edges.append(float(kept[side]))
    return edges[0], edges[1]


@pytest.mark.parametrize(
    ("lost", "won", "count"),
    [(0, 0, 40), (1, 0, 44), (0, 3, 44), (2, 1, 719), (12, 9, 50), (5, 15, 60), (30, 2, 90), (40, 38, 10000)],
)
def test_score_drop_is_tangos_interval(lost: int, won: int, count: int) -> None:
    found = score_drop(lost, won, count)
    assert (found.low, found.high) == pytest.approx(tango_by_grid(lost, won, count), abs=2e-6)


def test_score_drop_without_disagreement_has_its_known_width() -> None:
    """With no discordant pair Tango's interval is ± z² / (n + z²)."""
    found = score_drop(0, 0, 100)
    assert found.high == pytest.approx(Z**2 / (100 + Z**2), rel=1e-9)
    assert found.low == pytest.approx(-found.high, rel=1e-9)


def outcomes(count: int) -> list[tuple[int, int]]:
    return [(lost, won) for lost in range(count + 1) for won in range(count + 1 - lost)]


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_paired_drop_holds_the_truth_as_often_as_it_says(level: float) -> None:
    """No simulation: the chances of all outcomes, summed, at many truths; on either side, however few images."""
    for count in (5, 12, 25):
        pairs = np.array(outcomes(count))
        found = [paired_drop(lost, won, count, level) for lost, won in pairs.tolist()]
        lows, highs = np.array([one.low for one in found]), np.array([one.high for one in found])
        for p_lost, p_won in itertools.product((0.0, 0.01, 0.05, 0.2, 0.45), repeat=2):
            same = np.column_stack([pairs, count - pairs.sum(1)])
            chances = stats.multinomial.pmf(same, count, [p_lost, p_won, 1 - p_lost - p_won])
            too_high, too_low = (chances[lows > p_lost - p_won].sum(), chances[highs < p_lost - p_won].sum())
            assert max(too_high, too_low) <= (1 - level) / 2 + 1e-4


@pytest.mark.parametrize(("lost", "won", "count"), [(3, 1, 14), (0, 0, 9), (2, 6, 16), (9, 0, 11)])
@pytest.mark.parametrize("drop", [-0.3, -0.02, 0.0, 0.07, 0.4])
def test_surprise_sums_the_chances_of_all_that_scores_as_high(
    lost: int, won: int, count: int, drop: float
) -> None:
    # Where nothing flips and no drop is supposed, nothing is beyond it.
    scores = {
        pair: float(np.nan_to_num(tango_score(*pair, count, np.array([drop]))[0])) for pair in outcomes(count)
    }
    high = [pair for pair in scores if scores[pair] >= scores[lost, won] - 1e-7]
    near = share(won, count, 1 - 5e-5)
    chances = [
        sum(
            stats.multinomial.pmf([*pair, count - sum(pair)], count, [q + drop, q, 1 - 2 * q - drop])
            for pair in high
        )
        for q in np.linspace(near.low, near.high, 24).clip(max(0.0, -drop) + 1e-12, (1 - drop) / 2 - 1e-12)
    ]
    assert surprise(lost, won, count, drop) == pytest.approx(max(chances) + 5e-5, abs=1e-7)


@given(pairs(), st.floats(-0.2, 0.2))
@settings(max_examples=60, deadline=None)
def test_paired_drop_and_the_test_decide_alike(case: tuple[int, int, int], limit: float) -> None:
    """What is below the interval is rejected, and nothing within it is."""
    lost, won, count = case
    found = paired_drop(lost, won, count)
    if abs(limit - found.low) > 1e-4 and limit < found.value:
        assert (surprise(lost, won, count, limit) <= 0.025) == (limit < found.low)


NEEDED = [(3, 1, 100, 0.05), (5, 2, 200, 0.03), (1, 0, 50, 0.06), (2, 2, 60, 0.05), (1, 3, 90, 0.01)]


@pytest.mark.parametrize(("lost", "won", "count", "limit"), NEEDED)
def test_images_needed_prove_and_one_less_does_not(lost: int, won: int, count: int, limit: float) -> None:
    needed = images_needed(lost, won, count, limit)
    assert needed is not None
    highs = [
        score_drop(round(lost * n / count), round(won * n / count), n).high for n in (needed, needed - 1)
    ]
    assert highs[0] <= limit < highs[1]


@pytest.mark.parametrize("limit", [0.3, 0.03, 0.002])
def test_images_needed_without_disagreement_has_a_closed_form(limit: float) -> None:
    """z² / (n + z²) ≤ limit."""
    assert images_needed(0, 0, 5, limit) == math.ceil(Z**2 * (1 - limit) / limit)


@pytest.mark.parametrize(
    ("lost", "won", "count", "limit"), [*NEEDED, (13, 2, 400, 0.05), (14, 3, 400, 0.05), (5, 1, 719, 0.01)]
)
def test_images_needed_are_more_than_those_that_did_not_prove(
    lost: int, won: int, count: int, limit: float
) -> None:
    assert paired_drop(lost, won, count).high > limit, "the case is one that these images do not prove"
    needed = images_needed(lost, won, count, limit)
    assert needed is not None and needed > count


@pytest.mark.parametrize(("lost", "won", "limit"), [(6, 1, 0.05), (6, 0, 0.05), (1, 1, 0.0)])
def test_no_number_of_images_proves_a_drop_at_or_over_the_limit(lost: int, won: int, limit: float) -> None:
    assert images_needed(lost, won, 100, limit) is None


def test_images_needed_gives_up_beyond_the_most() -> None:
    assert images_needed(49, 0, 1000, 0.05, most=5000) is None
