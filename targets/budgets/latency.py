"""The latency budgets: in ms, in times the reference network's, against a baseline.

Their intervals hold at every look of the sequential test at once (``LOOK_LEVEL``). What is compared was timed in the
same rounds, so that what the machine did meanwhile fell on both alike.
"""

from __future__ import annotations

from functools import partial

from targets.budgets.budget import POSITIVE, Bounds, Budget, Found
from targets.budgets.evidence import Evidence
from targets.budgets.line import per_cent_more
from targets.stats.intervals import LOOK_LEVEL, judged_quantile, milliseconds, quantile_ratio, ratio

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
MEDIAN = 0.5
COMPARISONS = {"reference": "reference network", "baseline": "baseline"}


def in_milliseconds(evidence: Evidence, q: float) -> Found:
    candidate = evidence.candidate
    if candidate.no_tails and q > MEDIAN:
        return Found(None, candidate.no_tails)
    return Found(milliseconds(judged_quantile(candidate.blocks, q, LOOK_LEVEL)))


def in_times(evidence: Evidence, comparison: str, q: float) -> Found:
    """The candidate's latency in times the comparison's."""
    candidate, other = evidence.candidate, evidence.comparisons.get(comparison)
    if other is None:
        return Found(None, f"no {COMPARISONS[comparison]} was timed beside it")
    if candidate.no_tails and q > MEDIAN:
        return Found(None, candidate.no_tails)
    both = candidate.blocks, other.blocks
    times = quantile_ratio(*both, q, LOOK_LEVEL) if q > MEDIAN else ratio(*both, LOOK_LEVEL)
    return Found(times, f"{len(candidate.blocks)} processes")


def per_cent_slower(evidence: Evidence, comparison: str) -> Found:
    found = in_times(evidence, comparison, MEDIAN)
    return Found(found.estimate and per_cent_more(found.estimate), found.note)


LATENCY = (
    *(
        Budget(
            f"{name}_ms",
            "ms",
            "at_most",
            meaning,
            POSITIVE,
            "latency",
            partial(in_milliseconds, q=QUANTILES[name]),
        )
        for name, meaning in (
            ("p50", "half of the calls take at most this long"),
            ("p90", "90 of 100 calls take at most this long"),
            ("p99", "99 of 100 calls take at most this long"),
        )
    ),
    *(
        Budget(
            f"{name}_vs_reference",
            "times",
            "at_most",
            f"latency in times the reference network's, {what}",
            POSITIVE,
            "latency",
            partial(in_times, comparison="reference", q=QUANTILES[name]),
            needs="reference",
        )
        for name, what in (("p50", "medians"), ("p99", "99 of 100 calls"))
    ),
    Budget(
        "slower_than_baseline",
        "%",
        "at_most",
        "latency beyond the baseline's, timed in the same rounds; a limit below 0 asks for a speed-up",
        Bounds(gt=-100),
        "latency",
        partial(per_cent_slower, comparison="baseline"),
    ),
)
