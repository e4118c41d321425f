"""Every outcome of every budget, what ships and why, and the exit status, on constructed measurements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from support.verdicts import (
    CLASSES,
    FAIL,
    INCONCLUSIVE,
    LABELS,
    NOT_MEASURED,
    PASS,
    Logits,
    answers,
    judged,
    measured,
)
from targets.budgets.evidence import Measured, TestSet
from targets.budgets.line import Outcome
from targets.errors import FAILED, PASSED, UNDECIDED
from targets.limits import BUDGETS, Budgets
from targets.verdict import unmeasured

TABLE = [
    # Of 1000 images; the exact interval of 950 right is [93.5, 96.3] %.
    ("accuracy", 90, measured(answers(range(50))), PASS),
    ("accuracy", 95, measured(answers(range(50))), INCONCLUSIVE),
    ("accuracy", 97, measured(answers(range(50))), FAIL),
    # 10 lost and none won: a drop of 1 point, in [0.5, 1.8].
    *(
        (f"drop_vs_{reference}", limit, measured(answers(range(10))), expected)
        for reference in ("teacher", "float", "baseline")
        for limit, expected in ((3, PASS), (1.2, INCONCLUSIVE), (1, INCONCLUSIVE), (0.2, FAIL))
    ),
    ("agreement", 98, measured(answers(range(10)), here=answers([])), PASS),
    ("agreement", 99, measured(answers(range(10)), here=answers([])), INCONCLUSIVE),
    ("agreement", 98, measured(answers([])), NOT_MEASURED),
    ("agreement_vs_baseline", 98, measured(answers(range(10))), PASS),
    ("agreement_vs_baseline", 99.9, measured(answers(range(10))), FAIL),
    # 25 of the 250 dogs are not seen as dogs: a recall of 90 %, in about [84, 94].
    ("worst_class", 80, measured(answers(range(3, 103, 4))), PASS),
    ("worst_class", 90, measured(answers(range(3, 103, 4))), INCONCLUSIVE),
    ("worst_class", 97, measured(answers(range(3, 103, 4))), FAIL),
    *(
        (budget, limit, measured(answers([]), [1.8, 2.0, 2.2, 1.9, 2.1]), expected)
        for budget in ("p50_ms", "p90_ms", "p99_ms")
        for limit, expected in ((2.8, PASS), (2.0, INCONCLUSIVE), (1.4, FAIL))
    ),
    ("p99_ms", 2.0, measured(answers([]), [1.0]), INCONCLUSIVE),  # one process shows no spread
    # A phone's tool tells medians alone.
    ("p50_ms", 2.8, measured(answers([]), no_tails="medians alone"), PASS),
    ("p50_vs_reference", 2.5, measured(answers([]), no_tails="medians alone"), PASS),
    ("p99_ms", 90, measured(answers([]), no_tails="medians alone"), NOT_MEASURED),
    ("p99_vs_reference", 90, measured(answers([]), no_tails="medians alone"), NOT_MEASURED),
    # Beside others: the baseline takes 2 ms, the reference network 1 ms.
    ("slower_than_baseline", 5, measured(answers([]), [2.04, 2.05, 2.04, 2.03, 2.04]), PASS),
    ("slower_than_baseline", 2, measured(answers([]), [2.04, 2.05, 2.04, 2.03, 2.04]), INCONCLUSIVE),
    ("slower_than_baseline", 5, measured(answers([]), [2.2, 2.21, 2.2, 2.19, 2.2]), FAIL),
    ("slower_than_baseline", -5, measured(answers([]), [1.8, 1.81, 1.8, 1.79, 1.8]), PASS),
    *((f"{q}_vs_reference", 2.5, measured(answers([])), PASS) for q in ("p50", "p99")),
    *((f"{q}_vs_reference", 1.5, measured(answers([])), FAIL) for q in ("p50", "p99")),
    # Sizes are counted, not estimated: they pass or fail.
    ("size_mb", 0.4, measured(answers([])), PASS),
    ("size_mb", 0.39, measured(answers([])), FAIL),
    ("memory_mb", 30, measured(answers([])), PASS),
    ("memory_mb", 29.9, measured(answers([])), FAIL),
    ("memory_mb", 30, measured(answers([]), memory_bytes=None), NOT_MEASURED),
]
STATUS = {PASS: PASSED, FAIL: FAILED, INCONCLUSIVE: UNDECIDED, NOT_MEASURED: UNDECIDED}


@pytest.mark.parametrize(("budget", "limit", "found", "expected"), TABLE)
def test_outcome_of_a_budget(budget: str, limit: float, found: Measured, expected: Outcome) -> None:
    verdict = judged({budget: limit}, {"int8": found})
    (line,) = verdict.lines
    assert (line.budget, line.limit, line.outcome) == (budget, limit, expected)
    assert verdict.status == STATUS[expected]


def test_the_table_has_a_row_for_every_budget() -> None:
    assert {row[0] for row in TABLE} == set(BUDGETS)


@pytest.mark.parametrize("against", ["teacher", "float"])
def test_a_drop_against_absent_answers_is_not_measured(against: str) -> None:
    test_set = TestSet(LABELS, CLASSES, {})
    verdict = judged({f"drop_vs_{against}": 3}, {"int8": measured(answers([]))}, test_set)
    (line,) = verdict.lines
    assert line.outcome is NOT_MEASURED and line.estimate is None
    assert against in line.note
    assert verdict.status == UNDECIDED


def test_values_are_in_the_units_of_the_budgets() -> None:
    found = measured(answers(range(40)), [2.0] * 5)
    budgets = {"accuracy": 90, "drop_vs_teacher": 9, "p50_ms": 3, "size_mb": 1, "memory_mb": 99}
    verdict = judged(budgets, {"int8": found})
    shown: dict[str, Any] = {
        line.budget: (line.estimate and line.estimate.value, line.unit) for line in verdict.lines
    }
    assert shown == {
        "accuracy": (pytest.approx(96), "%"),
        "drop_vs_teacher": (pytest.approx(4), "points"),
        "p50_ms": (pytest.approx(2), "ms"),
        "size_mb": (pytest.approx(0.4), "MB"),
        "memory_mb": (pytest.approx(30), "MB"),
    }


def test_a_latency_is_the_quantile_that_its_budget_names() -> None:
    calls = [call / 1000 for call in range(101)]
    found = measured(answers([]), blocks=[[calls[:50], calls[50:]]])
    lines = judged({"p50_ms": 1, "p90_ms": 1, "p99_ms": 1}, {"int8": found}).lines
    assert [line.estimate.value for line in lines if line.estimate] == pytest.approx([50, 90, 99])


def test_a_drop_counts_what_was_lost_and_won_pair_by_pair() -> None:
    """Both are wrong 20 times; on 15 of the images they disagree each way."""
    test_set = TestSet(LABELS, CLASSES, {"teacher": answers(range(20)), "float": answers([])})
    verdict = judged({"drop_vs_teacher": 3}, {"int8": measured(answers(range(15, 35)))}, test_set)
    assert verdict.lines[0].estimate is not None and verdict.lines[0].estimate.value == 0
    assert "15 lost, 15 won of 1000" in verdict.lines[0].note


def test_an_undecided_drop_says_how_many_images_would_tell() -> None:
    near = judged({"drop_vs_teacher": 1.2}, {"int8": measured(answers(range(10)))}).lines[0].note
    over = judged({"drop_vs_teacher": 0.8}, {"int8": measured(answers(range(10)))}).lines[0].note
    assert "images would prove it" in near and "about" in near
    assert "no number of images" in over


def test_worst_class_holds_for_all_classes_at_once() -> None:
    """Ten classes, each right 96 of 100: each alone would pass at 95 %, all together do not."""
    labels, classes = np.arange(1000) % 10, tuple("0123456789")
    wrong = [image for image in range(1000) if image // 10 < 4]
    test_set = TestSet(labels, classes, {})
    alone, together = (
        100 * stats.binomtest(96, 100).proportion_ci(level, method="exact").low for level in (0.95, 0.995)
    )
    limit = (alone + together) / 2
    verdict = judged({"worst_class": limit}, {"int8": measured(answers(wrong, labels, 10))}, test_set)
    (line,) = verdict.lines
    assert line.estimate is not None and line.estimate.low == pytest.approx(together)
    assert line.outcome is INCONCLUSIVE


def test_worst_class_is_named_and_a_class_without_images_is_not_judged() -> None:
    labels = np.repeat([0, 2, 3], 200)
    verdict = judged(
        {"worst_class": 50},
        {"int8": measured(answers(range(200, 230), labels))},
        TestSet(labels, CLASSES, {}),
    )
    (line,) = verdict.lines
    assert line.outcome is PASS and "cat" in line.note
    assert line.estimate is not None and line.estimate.value == pytest.approx(85)


def test_worst_class_is_not_proved_by_a_rare_class_that_is_always_right() -> None:
    """Three images of a class, all right, say little of it: its interval decides, not the worst share."""
    labels = np.array([0] * 900 + [1])
    verdict = judged(
        {"worst_class": 80}, {"int8": measured(answers([], labels))}, TestSet(labels, CLASSES, {})
    )
    assert verdict.lines[0].outcome is INCONCLUSIVE


# SAME is a little faster in the mean, but not surely.
FAST, SAME, SLOW = [1.0] * 5, [1.5, 2.3, 1.8, 2.1, 1.9], [4.0] * 5
GOOD, BAD, OPEN = answers(range(10)), answers(range(200)), answers(range(25))
# float's answers, int8's, int8's time (float takes 2 ms) → what ships, the reason's words, the status
CHOICES = [
    (GOOD, GOOD, FAST, "int8", "2.00x as fast as float", PASSED),
    (GOOD, GOOD, SAME, "float", "not surely faster", PASSED),
    (GOOD, GOOD, SLOW, "float", "not surely faster", PASSED),
    (GOOD, BAD, FAST, "float", "not proved to meet the accuracy", PASSED),
    (GOOD, OPEN, FAST, "float", "not proved to meet the accuracy", PASSED),
    (BAD, GOOD, SLOW, "int8", "0.50x as fast as float", PASSED),
    (BAD, BAD, FAST, "int8", "no candidate is proved", FAILED),
    (OPEN, OPEN, FAST, "int8", "no candidate is proved", UNDECIDED),
]


@pytest.mark.parametrize(("floats", "ints", "times", "ship", "reason", "status"), CHOICES)
def test_what_ships(
    floats: Logits, ints: Logits, times: list[float], ship: str, reason: str, status: int
) -> None:
    verdict = judged({"drop_vs_teacher": 3}, {"float": measured(floats), "int8": measured(ints, times)})
    assert verdict.ship == ship
    assert reason in verdict.reason
    assert verdict.status == status
    assert (verdict.speed is None) == (ship == "float")


def test_the_lines_are_those_of_what_ships() -> None:
    candidates = {"float": measured(GOOD, size_bytes=900_000), "int8": measured(BAD, size_bytes=300_000)}
    verdict = judged({"drop_vs_teacher": 3, "size_mb": 0.5}, candidates)
    assert verdict.ship == "float"
    assert {line.budget: line.outcome for line in verdict.lines} == {"drop_vs_teacher": PASS, "size_mb": FAIL}
    assert verdict.status == FAILED


def test_the_fastest_of_several_that_are_good_enough_ships() -> None:
    candidates = {
        "float": measured(GOOD),
        "fair": measured(GOOD, [1.5] * 5),
        "fine": measured(GOOD, [1.0] * 5),
        "rash": measured(BAD, [0.5] * 5),
    }
    verdict = judged({"drop_vs_teacher": 3}, candidates)
    assert verdict.ship == "fine"
    assert verdict.speed is not None and verdict.speed.value == pytest.approx(0.5)


def test_a_runtimes_own_float_is_what_int8_must_beat() -> None:
    candidates = {"float": measured(GOOD), "native": measured(GOOD, FAST), "int8": measured(GOOD, [1.5] * 5)}
    verdict = judged({"drop_vs_teacher": 3}, candidates)
    assert verdict.ship == "native" and "not surely faster than native" in verdict.reason
    verdict = judged({"drop_vs_teacher": 3}, {**candidates, "native": measured(BAD, FAST)})
    assert verdict.ship == "int8" and "1.33x as fast as float" in verdict.reason


@pytest.mark.parametrize("name", ["float", "int8"])
def test_the_only_candidate_ships(name: str) -> None:
    verdict = judged({"drop_vs_teacher": 3}, {name: measured(BAD)})
    assert (verdict.ship, verdict.reason, verdict.speed) == (name, "the only candidate", None)
    assert verdict.status == FAILED


def test_no_budgets_are_kept_to_and_the_faster_ships() -> None:
    verdict = judged({}, {"float": measured(BAD), "int8": measured(BAD, FAST)})
    assert (verdict.ship, verdict.status, verdict.lines) == ("int8", PASSED, [])


def test_a_failure_outweighs_what_is_undecided() -> None:
    budgets = {"drop_vs_teacher": 1.2, "size_mb": 0.1, "p50_ms": 5}
    verdict = judged(budgets, {"int8": measured(answers(range(10)))})
    assert [line.outcome for line in verdict.lines] == [INCONCLUSIVE, PASS, FAIL]
    assert verdict.status == FAILED


def test_float_loses_nothing_against_itself_however_few_the_images() -> None:
    """With 60 images and equal answers a slower int8 must not ship because float's drop is 'undecided'."""
    labels = LABELS[:60]
    same = answers([], labels)
    test_set = TestSet(labels, CLASSES, {"float": same})
    verdict = judged({"drop_vs_float": 2}, {"float": measured(same), "int8": measured(same, SLOW)}, test_set)
    assert (verdict.ship, verdict.status) == ("float", PASSED)


EVERY = dict.fromkeys(BUDGETS, 1.0)


def test_what_was_not_measured_has_all_its_budgets_open() -> None:
    verdict = unmeasured(Budgets.model_validate(EVERY), "no such board here")
    assert {line.budget: line.outcome for line in verdict.lines} == dict.fromkeys(EVERY, NOT_MEASURED)
    assert {line.note for line in verdict.lines} == {verdict.reason} == {"no such board here"}
    assert (verdict.ship, verdict.status) == (None, UNDECIDED)
    assert unmeasured(Budgets(), "no such board here").status == UNDECIDED


def test_units_are_the_same_measured_or_not() -> None:
    lines = judged(EVERY, {"int8": measured(GOOD)}).lines
    assert {line.budget: line.unit for line in lines} == {row.name: row.unit for row in BUDGETS.values()}
    assert [line.budget for line in unmeasured(Budgets.model_validate(EVERY), "").lines] == list(EVERY)


@pytest.mark.parametrize("limit", [0.1, 9])
def test_a_stand_in_for_a_runtime_proves_and_ships_nothing(limit: float) -> None:
    candidates = {"float": measured(GOOD), "int8": measured(GOOD, FAST)}
    verdict = judged({"drop_vs_teacher": limit, "size_mb": limit}, candidates, simulated=True)
    assert {line.outcome for line in verdict.lines} == {Outcome.SIMULATED} and len(verdict.lines) == 2
    assert (verdict.ship, verdict.speed, verdict.status) == (None, None, UNDECIDED)
