"""Intervals: of shares, of latencies and their ratios. Two-sided, 95 % unless said."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import stats

T = TypeVar("T")
LEVEL = 0.95

# A latency is judged after so many fresh processes, and again after more while the answer is open. The intervals
# of all looks hold at once (Bonferroni), so the chance of any wrong decision is at most ERROR.
LOOKS = (5, 7, 10, 14, 20, 28, 40)
ERROR = 0.01
LOOK_LEVEL = 1 - ERROR / len(LOOKS)  # of an interval at one look


@dataclass(frozen=True)
class Estimate:
    """A value and the interval that holds it at the stated level."""

    value: float
    low: float
    high: float


def share(right: int, count: int, level: float = LEVEL) -> Estimate:
    """A share of independent trials with its exact interval (Clopper & Pearson 1934)."""
    tail = (1 - level) / 2
    low = stats.beta.ppf(tail, right, count - right + 1) if right > 0 else 0.0
    high = stats.beta.ppf(1 - tail, right + 1, count - right) if right < count else 1.0
    return Estimate(right / count, float(low), float(high))


Blocks = Sequence[Sequence[Sequence[float]]]  # processes of blocks of seconds


def until_settled(take: Callable[[int], T], enough: Callable[[list[T]], bool]) -> list[T]:
    """The sequential test: samples up to each look in turn, until it is enough or the last look is over."""
    taken: list[T] = []
    for look in LOOKS:
        taken += [take(number) for number in range(len(taken), look)]
        if enough(taken):
            break
    return taken


def across(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """The geometric mean over processes with Student's interval.

    Processes are the samples: within one, timings depend on each other and on where its memory lies.
    """
    logs = np.log(values)
    mean, count = float(logs.mean()), len(logs)
    if count < 2:
        return Estimate(math.exp(mean), 0.0, math.inf)
    half = student_half(float(logs.std(ddof=1)), count, level)
    return Estimate(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def middle(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """The median over processes with its exact interval, whatever their distribution (by signs: order statistics).

    For tails: on a busy machine a process's 99th percentile has two modes, and a few alike processes would make
    Student's interval too narrow. It takes 11 processes for the first finite one at the level of the gate.
    """
    ordered, count = sorted(values), len(values)
    beyond = int(stats.binom.ppf((1 - level) / 2, count, 0.5))
    if stats.binom.cdf(beyond, count, 0.5) > (1 - level) / 2:
        beyond -= 1
    value = float(np.median(ordered))
    return (
        Estimate(value, 0.0, math.inf)
        if beyond < 0
        else Estimate(value, ordered[beyond], ordered[-1 - beyond])
    )


def student_half(spread: float, count: int, level: float = LEVEL) -> float:
    """Half of Student's interval of a mean of ``count`` values with that standard deviation."""
    return float(stats.t.ppf(1 - (1 - level) / 2, count - 1)) * spread / math.sqrt(count)


def quantiles(processes: Blocks, q: float) -> list[float]:
    """A latency's quantile (seconds) in each process."""
    return [float(np.quantile(np.concatenate([*map(np.asarray, p)]), q)) for p in processes]


def quantile(processes: Blocks, q: float, level: float = LEVEL) -> Estimate:
    """A latency's quantile (seconds), over processes."""
    return across(quantiles(processes, q), level)


def judged_quantile(processes: Blocks, q: float, level: float) -> Estimate:
    """A latency's quantile (seconds) as a budget judges it: tails by ``middle``."""
    return (middle if q > 0.5 else across)(quantiles(processes, q), level)


def milliseconds(found: Estimate) -> Estimate:
    """Seconds as people read them."""
    return Estimate(1000 * found.value, 1000 * found.low, 1000 * found.high)


def ratio(candidate: Blocks, reference: Blocks, level: float = LEVEL) -> Estimate:
    """How many times the reference's latency the candidate takes: medians of the rounds' paired blocks."""
    return across(ratios(candidate, reference), level)


def ratios(candidate: Blocks, reference: Blocks) -> list[float]:
    """The same in each process."""
    pairs = zip(candidate, reference, strict=True)
    return [float(np.median(medians(a) / medians(b))) for a, b in pairs]


def quantile_ratio(candidate: Blocks, reference: Blocks, q: float, level: float = LEVEL) -> Estimate:
    """The same of a tail's quantile, process by process, by ``middle``."""
    both = zip(quantiles(candidate, q), quantiles(reference, q), strict=True)
    return middle([a / b for a, b in both], level)


def medians(blocks: Sequence[Sequence[float]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Of each block; a process's blocks are equally long."""
    return np.asarray(np.median(np.asarray(blocks), axis=1))
