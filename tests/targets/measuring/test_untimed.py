"""Where nothing can be timed: what is judged all the same, what ships, and when that may pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from targets.budgets.evidence import Measured, TestSet
from targets.errors import FAILED, PASSED, UNDECIDED
from targets.limits import Budgets
from targets.measuring.bench import EMULATED
from targets.measuring.candidate import Measurement
from targets.stats.intervals import share
from targets.tasks.answers import images_for_share
from targets.verdict import Verdict, judge

LABELS = np.arange(400) % 4
RIGHT = np.eye(4, dtype=np.float32)[LABELS]
WRONG = np.roll(RIGHT, 1, axis=1)


def measured(size: int, right: bool = True) -> Measured:
    logits = RIGHT if right else WRONG
    return Measured(Path("model.onnx"), size, None, logits, [], {}, here=logits)


def judged(candidates: dict[str, Measured], accept: bool = False, **budgets: float) -> Verdict:
    measurement = Measurement("rpi5", "emulator:cortex-a76", candidates, {}, {}, untimed=EMULATED)
    found = judge(measurement, Budgets.model_validate(budgets), TestSet(LABELS, ("a", "b", "c", "d"), {}))
    return replace(found, accept=accept)


BOTH = {"float": measured(900_000), "int8": measured(300_000)}


@pytest.mark.parametrize("accept", [False, True])
def test_accuracy_is_judged_and_latency_is_not(accept: bool) -> None:
    budgets = {
        "accuracy": 90.0,
        "agreement": 95.0,
        "p99_ms": 5.0,
        "slower_than_baseline": 5.0,
        "size_mb": 0.5,
    }
    found = judged(BOTH, accept, **budgets)
    assert {line.budget: line.outcome.value for line in found.lines} == {
        "accuracy": "PASS",
        "agreement": "PASS",
        "p99_ms": "NOT MEASURED",
        "slower_than_baseline": "NOT MEASURED",
        "size_mb": "PASS",
    }
    assert found.ship == "int8" and "smallest; its latency is not known" in found.reason
    assert found.status == (PASSED if accept else UNDECIDED)


def test_without_a_latency_budget_nothing_is_proved_either() -> None:
    assert judged(BOTH, accuracy=90).status == UNDECIDED
    assert judged(BOTH, accept=True, accuracy=90).status == PASSED


def test_accepting_what_is_not_measured_accepts_no_failure() -> None:
    assert judged(BOTH, accept=True, accuracy=90, size_mb=0.1).status == FAILED
    wrong = {"float": measured(900_000), "int8": measured(300_000, right=False)}
    found = judged(wrong, accept=True, accuracy=90)
    assert found.ship == "float" and found.status == PASSED
    nothing = {name: measured(1, right=False) for name in BOTH}
    assert judged(nothing, accept=True, accuracy=90).status == FAILED


@pytest.mark.parametrize(("value", "limit"), [(1.0, 0.99), (0.995, 0.98), (0.95, 0.949)])
def test_the_images_that_a_share_needs_prove_it(value: float, limit: float) -> None:
    needed = images_for_share(value, limit)
    assert needed is not None
    assert share(round(value * needed), needed).low >= limit
    fewer = int(needed / 1.2)
    assert share(round(value * fewer), fewer).low < limit


def test_a_share_below_its_limit_is_proved_by_no_number_of_images() -> None:
    assert images_for_share(0.98, 0.99) is None and images_for_share(0.99, 0.99) is None
