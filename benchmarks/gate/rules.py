"""Decisions by the gate on replayed traces, and by the rules that people usually gate with, on the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from targets.budgets.line import Outcome, outcome, per_cent_more
from targets.stats.intervals import LOOK_LEVEL, LOOKS, across, middle

Row = dict[str, Any]
BLOCK = 5  # processes that stay together in a replay: what lasts for seconds, such as a burst, stays
STORED = 1.10  # the usual tolerance against a stored baseline


# How the gate makes an interval of each figure, and so what its truth is over a trace.
INTERVALS = {"ratio": across, "p99_ratio": middle}


def truth(rows: Sequence[Row], name: str, figure: str = "ratio") -> float:
    """How much slower the variant is, per cent: over all processes of the trace."""
    return 100 * (INTERVALS[figure]([row["of"][name][figure] for row in rows]).value - 1)


def decided(values: Sequence[float], limit: float, figure: str = "ratio") -> tuple[Outcome, int]:
    """What the gate says of these processes' ratios, and after how many of them. ``limit`` in per cent."""
    for look in LOOKS:
        more = per_cent_more(INTERVALS[figure](values[:look], LOOK_LEVEL))
        found = outcome("at_most", limit, more)
        if found is not Outcome.INCONCLUSIVE:
            break
    return found, look


def replays(
    rows: Sequence[Row],
    name: str,
    limit: float,
    timed_s: float,
    count: int,
    seed: int,
    figure: str = "ratio",
) -> list[tuple[Outcome, float]]:
    """Decisions on processes drawn in blocks, with the seconds they take; ``timed_s`` of each but its start."""
    values = np.array([row["of"][name][figure] for row in rows])
    seconds = np.array([row["start_s"] for row in rows]) + timed_s
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        starts = draw.integers(0, len(rows), math.ceil(LOOKS[-1] / BLOCK))
        order = (starts[:, None] + np.arange(BLOCK)).ravel() % len(rows)
        outcome, look = decided(values[order], limit, figure)
        found.append((outcome, float(seconds[order[:look]].sum())))
    return found


def mean_of_20(mine: Row, base: Row, stored: Row, limit: float) -> bool:
    return bool(mine["mean_20"] <= limit * base["mean_20"])


def best_of_5(mine: Row, base: Row, stored: Row, limit: float) -> bool:
    return bool(mine["best_5"] <= limit * base["best_5"])


def t_test(mine: Row, base: Row, stored: Row, limit: float) -> bool:
    """Passes unless Welch's test on raw samples is sure, at 5 %, that the limit is broken."""
    statistic = stats.ttest_ind_from_stats(
        mine["mean"],
        math.sqrt(mine["variance"]),
        mine["count"],
        limit * base["mean"],
        limit * math.sqrt(base["variance"]),
        base["count"],
        equal_var=False,
        alternative="greater",
    )
    return bool(statistic.pvalue >= 0.05)


def stored_baseline(mine: Row, base: Row, stored: Row, limit: float) -> bool:
    """By a median kept from another time, with the usual tolerance in place of the budget."""
    return bool(mine["p50"] <= STORED * stored["p50"])


USUAL: dict[str, Callable[[Row, Row, Row, float], bool]] = {
    "mean of 20": mean_of_20,
    "best of 5": best_of_5,
    "t-test on raw samples": t_test,
    "stored baseline ± 10 %": stored_baseline,
}


def usual(rows: Sequence[Row], name: str, limit: float, seed: int) -> dict[str, list[bool]]:
    """Whether each rule passes: the candidate in one process, its baseline in the next, as scripts do it."""
    draw = np.random.default_rng(seed)
    told: dict[str, list[bool]] = {rule: [] for rule in USUAL}
    for row, after in pairwise(rows):
        stored = rows[draw.integers(len(rows))]
        three = row["of"][name], after["of"]["baseline"], stored["of"]["baseline"]
        for rule, passes in USUAL.items():
            told[rule].append(passes(*three, 1 + limit / 100))
    return told
