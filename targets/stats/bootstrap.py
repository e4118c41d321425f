"""The interval of a score that is no share of right answers: by drawing the examples anew (Efron 1979).

A score is computed from the records of all examples together: a mean of grades, or a mean average precision. How
much it would vary over other test sets is estimated by its values on sets drawn, with replacement, from this one. Two
networks are compared on the same draws, so that an example that is hard for both speaks against neither.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from targets.stats.intervals import LEVEL, Estimate, share

DRAWS = 1999
Score = Callable[
    [NDArray[np.int64]], float
]  # of the examples with these indices; each may come several times


def resampled(score: Score, count: int, level: float = LEVEL) -> Estimate:
    """A score of ``count`` examples with its percentile interval, at least as wide as so few examples allow.

    Examples that all agree would have an interval without width, although a further one might not agree: the
    interval reaches at least as far from the value as that of an event which none of ``count`` examples has shown.
    """
    indices = np.arange(count)
    drawn = stats.bootstrap(
        (indices,),
        score,
        vectorized=False,
        n_resamples=DRAWS,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    value, unseen = score(indices), share(0, count, level).high
    low, high = drawn.confidence_interval
    return Estimate(value, min(float(low), value - unseen), max(float(high), value + unseen))


def examples_needed(found: Estimate, count: int, limit: float) -> int | None:
    """About how many examples would decide a limit on a value, as an interval narrows with their root; None: none."""
    apart = abs(limit - found.value)
    if not apart:
        return None
    return int(np.ceil(count * (max(found.high - found.value, found.value - found.low) / apart) ** 2))
