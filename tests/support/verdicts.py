"""Constructed measurements of four classes, and what is judged of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.budgets.evidence import Measured, TestSet
from targets.budgets.line import Outcome
from targets.limits import Budgets
from targets.measuring.candidate import Measurement
from targets.verdict import Verdict, judge

PASS, FAIL, INCONCLUSIVE, NOT_MEASURED, _ = Outcome
COUNT, CLASSES = 1000, ("ant", "bee", "cat", "dog")
LABELS = np.arange(COUNT) % len(CLASSES)
Logits = NDArray[np.float32]


def answers(wrong: range | list[int], labels: NDArray[Any] = LABELS, classes: int = len(CLASSES)) -> Logits:
    """Logits that are right but for the images of ``wrong``."""
    chosen = labels.copy()
    chosen[list(wrong)] = (chosen[list(wrong)] + 1) % classes
    return np.asarray(np.eye(classes)[chosen], np.float32)


def blocks(milliseconds: list[float]) -> list[list[list[float]]]:
    """Three processes a value, so that a tail has an interval: three blocks of calls that took it."""
    return [[[value / 1000] * 4] * 3 for value in milliseconds * 3]


def measured(logits: Logits, milliseconds: list[float] | None = None, **facts: Any) -> Measured:
    shown = Measured(Path("model.onnx"), 400_000, 30_000_000, logits, blocks(milliseconds or [2.0] * 5), {})
    return replace(shown, **facts)


def judged(
    budgets: Mapping[str, float],
    candidates: dict[str, Measured],
    test_set: TestSet | None = None,
    simulated: bool = False,
) -> Verdict:
    test_set = test_set or TestSet(LABELS, CLASSES, {"teacher": answers([]), "float": answers([])})
    comparisons = {"baseline": measured(answers([])), "reference": measured(answers([]), [1.0] * 5)}
    measurement = Measurement("cpu", "local", candidates, {}, {}, simulated, comparisons)
    return judge(measurement, Budgets.model_validate(budgets), test_set)
