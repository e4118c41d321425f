"""The catalogue of tasks, and the intervals of scores that are no share of right answers."""

from __future__ import annotations

import numpy as np
import pytest

from targets.errors import Refusal
from targets.stats.bootstrap import examples_needed, resampled
from targets.stats.intervals import Estimate, share
from targets.stats.paired import paired_drop
from targets.tasks import TASKS, task_of
from targets.tasks.task import estimate, estimate_drop, estimate_of, found_drop

CLASSES = TASKS["classification"]


def test_right_and_wrong_are_judged_exactly() -> None:
    random = np.random.default_rng(0)
    mine, theirs = random.random(200) < 0.8, random.random(200) < 0.85
    assert estimate(CLASSES, mine) == share(int(mine.sum()), 200)
    lost, won = sum(~mine & theirs), sum(mine & ~theirs)
    assert estimate_drop(CLASSES, mine, theirs) == paired_drop(int(lost), int(won), 200)


@pytest.mark.parametrize("skewed", [False, True])
def test_the_interval_of_a_mean_of_grades_holds_the_truth_as_often_as_it_says(skewed: bool) -> None:
    random, missed = np.random.default_rng(0), 0
    for _ in range(120):
        grades = random.beta(0.3, 0.05, 80) if skewed else random.beta(4, 2, 80)
        truth = 0.3 / 0.35 if skewed else 4 / 6
        found = estimate_of(lambda some: float(some.mean()), grades)
        missed += not found.low <= truth <= found.high
    assert missed <= 12, "5 % of 120 are 6; 12 or more have a chance of 2 %"


def test_a_paired_difference_is_surer_than_two_scores() -> None:
    random = np.random.default_rng(0)
    theirs = random.beta(0.5, 0.2, 400)
    mine = np.clip(theirs - 0.02 + 0.005 * random.standard_normal(400), 0, 1)
    drop = estimate_drop(CLASSES, mine, theirs)
    assert 0 < drop.low < drop.high < 0.04
    assert estimate(CLASSES, mine).high > estimate(CLASSES, theirs).low


def test_examples_that_all_agree_do_not_prove_that_every_example_does() -> None:
    same = np.full(100, 0.75)
    found = estimate_drop(CLASSES, same, same)
    assert (found.value, found.high) == (0.0, share(0, 100).high)


def test_a_score_of_all_records_together_is_drawn_as_such() -> None:
    """The median, say, whose interval by order statistics is known."""
    values = np.random.default_rng(0).random(501)
    found = resampled(lambda drawn: float(np.median(values[drawn])), 501)
    ordered = np.sort(values)
    assert found.value == ordered[250]
    assert found.low == pytest.approx(ordered[228], abs=0.02) and found.high == pytest.approx(
        ordered[272], abs=0.02
    )


def test_more_examples_are_asked_for_where_they_would_decide() -> None:
    assert examples_needed(Estimate(1.0, 0.0, 2.0), 100, 3.0) == 25
    assert examples_needed(Estimate(1.0, 0.0, 2.0), 100, 1.5) == 400
    assert examples_needed(Estimate(1.0, 0.0, 2.0), 100, 1.0) is None


def test_a_drop_of_grades_is_told_in_points() -> None:
    mine, theirs = np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 1.0])
    found = found_drop(CLASSES, mine, theirs)
    assert found.estimate is not None and found.estimate.value == pytest.approx(100 / 6)
    assert found.note == "accuracy 0.6667 and 0.8333 of 3"


def test_an_unknown_task_is_refused_with_the_nearest() -> None:
    with pytest.raises(Refusal, match="did you mean 'classification'"):
        task_of("clasification", "data.task")
