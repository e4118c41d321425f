"""A budget's judgement, one line: its outcome, and the interval that led to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from targets.stats.intervals import Estimate

Direction = Literal["at_most", "at_least"]


class Outcome(Enum):
    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_MEASURED = "NOT MEASURED"
    SIMULATED = "SIMULATED"


@dataclass(frozen=True)
class Line:
    """One budget's judgement; ``limit``, the value and its interval are in ``unit``."""

    budget: str
    limit: float
    unit: str
    outcome: Outcome
    estimate: Estimate | None = None
    note: str = ""
    direction: Direction = "at_most"
    meaning: str = ""


def outcome(direction: Direction, limit: float, found: Estimate) -> Outcome:
    """PASS where the whole interval keeps to the limit, FAIL where the whole interval breaks it."""
    if direction == "at_most":
        kept, broken = found.high <= limit, found.low > limit
    else:
        kept, broken = found.low >= limit, found.high < limit
    if kept:
        return Outcome.PASS
    return Outcome.FAIL if broken else Outcome.INCONCLUSIVE


def per_cent_more(times: Estimate) -> Estimate:
    """1.05 times as 5 per cent more."""
    return points(Estimate(times.value - 1, times.low - 1, times.high - 1))


def points(found: Estimate) -> Estimate:
    return Estimate(100 * found.value, 100 * found.low, 100 * found.high)
