"""A budget's judgement, one line: its outcome, and the interval that led to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from targets.stats.intervals import Estimate

UNITS = {
    "accuracy": "%",
    "worst_class": "%",
    "drop_vs_teacher": "points",
    "drop_vs_float": "points",
    "p50_ms": "ms",
    "p90_ms": "ms",
    "p99_ms": "ms",
    "p50_vs_reference": "times",
    "p99_vs_reference": "times",
    "slower_than_baseline": "%",
    "drop_vs_baseline": "points",
    "agreement_vs_baseline": "%",
    "agreement": "%",
    "size_mb": "MB",
    "memory_mb": "MB",
}


class Outcome(Enum):
    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_MEASURED = "NOT MEASURED"
    SIMULATED = "SIMULATED"


@dataclass(frozen=True)
class Line:
    """One budget's judgement; ``value`` and ``estimate`` are in ``unit``."""

    budget: str
    limit: float
    unit: str
    outcome: Outcome
    estimate: Estimate | None = None
    note: str = ""


def outcome(surely_kept: bool, surely_broken: bool) -> Outcome:
    if surely_kept:
        return Outcome.PASS
    return Outcome.FAIL if surely_broken else Outcome.INCONCLUSIVE


def at_most(budget: str, limit: float, unit: str, found: Estimate, note: str = "") -> Line:
    return Line(budget, limit, unit, outcome(found.high <= limit, found.low > limit), found, note)


def at_least(budget: str, limit: float, unit: str, found: Estimate, note: str = "") -> Line:
    return Line(budget, limit, unit, outcome(found.low >= limit, found.high < limit), found, note)


def per_cent_more(times: Estimate) -> Estimate:
    """1.05 times as 5 per cent more."""
    return points(Estimate(times.value - 1, times.low - 1, times.high - 1))


def points(found: Estimate) -> Estimate:
    return Estimate(100 * found.value, 100 * found.low, 100 * found.high)
