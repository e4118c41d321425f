"""Which candidate ships: what is no number never does, nor what is surely worse than calibration."""

from __future__ import annotations

import numpy as np
import pytest

from support.verdicts import CLASSES, FAIL, answers, judged, measured
from targets.budgets.evidence import Measured, Method, TestSet
from targets.errors import FAILED
from targets.verdict import settled

NAN = np.full_like(answers([]), np.nan)


@pytest.mark.parametrize("budgets", [{"agreement": 90}, {"accuracy": 1}, {"p50_ms": 9}, {"size_mb": 9}, {}])
def test_answers_that_are_no_numbers_never_pass(budgets: dict[str, float]) -> None:
    """All NaN: argmax is class 0 everywhere, and every runtime answers alike."""
    test_set = TestSet(np.zeros(1000, np.int64), CLASSES, {})
    for broken in (NAN, np.where(np.arange(1000)[:, None] == 7, np.float32(np.inf), answers([]))):
        found = judged(budgets, {"model": measured(broken, here=broken)}, test_set)
        assert found.status == FAILED
        (line,) = (line for line in found.lines if line.budget == "finite")
        assert line.outcome is FAIL and "what is no number" in line.note


def test_a_candidate_that_answers_with_numbers_ships_instead() -> None:
    found = judged({}, {"float": measured(answers([])), "int8": measured(NAN, [1.0] * 5)})
    assert found.ship == "float" and found.status == 0


def int8(wrong: range, method: Method, milliseconds: float) -> Measured:
    return measured(answers(wrong), [milliseconds] * 5, precision="int8", network="student", method=method)


@pytest.mark.parametrize(
    ("calibrated", "trained", "ships"),
    [
        (range(10), range(10), "int8"),
        (range(10), range(12), "int8"),  # not surely worse
        (range(10), range(60), "int8-ptq"),  # 50 lost and none won
        (range(200), range(10), "int8"),  # only the trained one meets the budget
    ],
)
def test_what_ships_is_never_surely_worse_than_calibration(
    calibrated: range, trained: range, ships: str
) -> None:
    """However their latencies fell, which for equal graphs is luck."""
    for times in ((1.0, 1.01), (1.01, 1.0)):
        candidates = {
            "float": measured(answers([]), [2.0] * 5, network="student"),
            "int8": int8(trained, "qat", times[0]),
            "int8-ptq": int8(calibrated, "ptq", times[1]),
        }
        assert judged({"drop_vs_float": 12}, candidates).ship == ships


def test_what_is_not_proved_is_told_with_its_lines() -> None:
    candidates = {"float": measured(answers([])), "int8": measured(answers(range(50)), [1.0] * 5)}
    found = judged({"drop_vs_float": 1, "accuracy": 50}, candidates)
    assert found.ship == "float"
    assert [(line.budget, line.outcome) for line in found.rejected["int8"]] == [("drop_vs_float", FAIL)]


def spread(low: float, high: float, seed: int) -> Measured:
    """Five processes between two medians, in ms."""
    times = np.random.default_rng(seed).permutation(np.linspace(low, high, 5)).tolist()
    return measured(answers([]), times)


@pytest.mark.parametrize(
    ("int8", "open_"),
    [
        (spread(0.6, 2.4, 1), True),  # it may be faster, by much
        (spread(0.9, 1.0, 1), False),  # it is surely faster
        (spread(1.99, 2.01, 1), False),  # it may be faster, by nothing that matters
        (spread(3.0, 3.1, 1), False),  # it is surely slower
    ],
)
def test_the_clock_goes_on_while_it_is_open_which_candidate_ships(int8: Measured, open_: bool) -> None:
    found = judged({}, {"float": spread(1.99, 2.01, 0), "int8": int8})
    assert found.undecided is open_ and settled(found) is not open_
