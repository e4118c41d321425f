"""What a budget is: one row that says its name, unit, direction and meaning, and finds its value in the evidence.

All that names budgets reads these rows: the recipe and the profile which limits they may set, the verdict what to
judge and when the clock is needed, the report what to call it. ``targets.limits`` joins them into one table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from targets.budgets.evidence import Evidence
from targets.budgets.line import Direction, Line, Outcome, outcome
from targets.stats.intervals import Estimate

# Answers decide which candidates may ship; a latency needs the clock; a cost is counted.
Kind = Literal["answers", "latency", "cost"]


@dataclass(frozen=True)
class Bounds:
    """Which limits make sense: greater than, greater or equal, less or equal."""

    gt: float | None = None
    ge: float | None = None
    le: float | None = None


POSITIVE = Bounds(gt=0)
SHARE = Bounds(gt=0, le=100)
POINTS = Bounds(ge=0, le=100)


@dataclass(frozen=True)
class Found:
    """What the evidence says of one quantity, in the budget's unit; without an estimate the note says why."""

    estimate: Estimate | None
    note: str = ""
    # About how many test images would prove a limit, where more images would tell; None: no number of them.
    images_for: Callable[[float], int | None] | None = None


@dataclass(frozen=True)
class Budget:
    """One row of the table."""

    name: str
    unit: str
    direction: Direction
    meaning: str
    bounds: Bounds
    kind: Kind
    find: Callable[[Evidence], Found]
    needs: str = ""  # a comparison that Retort can bring by itself, to be timed in the same rounds

    def judge(self, evidence: Evidence, limit: float) -> Line:
        return self.line(limit, self.find(evidence))

    def unmeasured(self, limit: float, reason: str) -> Line:
        return self.line(limit, Found(None, reason))

    def line(self, limit: float, found: Found) -> Line:
        result, note = Outcome.NOT_MEASURED, found.note
        if found.estimate is not None:
            result = outcome(self.direction, limit, found.estimate)
        if result is Outcome.INCONCLUSIVE and found.images_for is not None:
            note = f"{note}; {hint(found.images_for(limit))}"
        return Line(self.name, limit, self.unit, result, found.estimate, note, self.direction, self.meaning)


def hint(needed: int | None) -> str:
    if needed is None:
        return "no number of images would prove it"
    return f"about {needed:,} images would prove it"
