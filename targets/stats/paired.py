"""What a network lost against another on the same images: by pairs, because most images are right for both.

``lost``: images that the reference answers right and the candidate wrong; ``won``: the reverse.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from targets.stats.intervals import LEVEL, Estimate, share

GRID = 24  # shares of discordant pairs that are tried
UNLIKELY = 1e-3  # of the tail: how much is spent on leaving out shares that the images speak against
Counts = NDArray[np.int64]
FAR = 7.5  # standard deviations that a sum over counts goes


@lru_cache(maxsize=4096)
def paired_drop(lost: int, won: int, count: int, level: float = LEVEL) -> Estimate:
    """How much smaller the share of right answers is: (lost − won) / count, with an exact interval.

    The interval is the set of drops that an exact unconditional test does not reject: of the score (Tango
    1998), its chance summed over all outcomes, at the share of discordant pairs that is worst for us within what the
    images allow (Berger & Boos 1994; Lloyd & Moldovan 2007). So an interval misses the truth on a side in at most
    (1 − level) / 2, however few images or discordant pairs there are.
    """
    value, near = (lost - won) / count, score_drop(lost, won, count, level)
    low = lower(lost, won, count, near.low, (1 - level) / 2)
    return Estimate(value, low, -lower(won, lost, count, -near.high, (1 - level) / 2))


def lower(lost: int, won: int, count: int, near: float, tail: float) -> float:
    """The drop that the images just do not reject from below; ``near`` is where to look first."""
    value, end = (lost - won) / count, 1 - 1e-6
    reach = value - near

    def excess(drop: float) -> float:
        return surprise(lost, won, count, drop) - tail

    low = max(near, -end)
    while excess(low) > 0:
        if low == -end:
            return -1.0
        low = max(low - reach / 2, -end)
    return float(optimize.brentq(excess, low, min(value, end), xtol=1e-7)) if value > low else low


def surprise(lost: int, won: int, count: int, drop: float) -> float:
    """The chance of so high a score or a higher one where the drop truly is ``drop``: an exact p-value, at most."""
    spent = UNLIKELY * (1 - LEVEL)
    near = share(won, count, 1 - spent)
    shares = np.linspace(near.low, near.high, GRID).clip(max(0.0, -drop) + 1e-12, (1 - drop) / 2 - 1e-12)
    widest = FAR * np.sqrt(count * shares * (1 - shares)) + FAR
    first, last = (
        max(0, int((count * shares - widest).min())),
        min(count, int((count * shares + widest).max())),
    )
    wins = np.arange(first, last + 1)
    losses = least_losses(wins, count, drop, float(score(lost, won, count, drop)) - 1e-9)
    chances = np.clip((shares + drop) / (1 - shares), 0, 1)[:, None]
    beyond = stats.binom.sf(losses - 1, count - wins, chances)
    chance = np.asarray(stats.binom.pmf(wins, count, shares[:, None]) * beyond)
    return float(chance.sum(1).max()) + spent


def least_losses(wins: Counts, count: int, drop: float, least: float) -> Counts:
    """With so many won, the fewest lost that score at least that much; one more than possible if none do."""
    low, high = np.zeros_like(wins), count - wins + 1
    for _ in range(count.bit_length() + 1):
        middle = (low + high) // 2
        enough = score(middle, wins, count, drop) >= least
        low, high = np.where(enough | (low >= high), low, middle + 1), np.where(enough, middle, high)
    return high


def score(lost: Counts | int, won: Counts | int, count: int, drop: float) -> NDArray[np.float64]:
    """Tango's: what was lost beyond ``drop``, over its standard error if ``drop`` is the truth."""
    b = -lost - won + (2 * count - lost + won) * drop
    c = -won * drop * (1 - drop)
    share_won = (np.sqrt(np.maximum(b * b - 8 * count * c, 0.0)) - b) / (4 * count)
    variance = count * (2 * share_won + drop * (1 - drop))
    return (lost - won - count * drop) / np.sqrt(np.maximum(variance, 1e-300))


def score_drop(lost: int, won: int, count: int, level: float = LEVEL) -> Estimate:
    """The score interval (Tango 1998, Statistics in Medicine 17, 891): at once, and nearly exact."""
    z = float(stats.norm.ppf(1 - (1 - level) / 2))
    value, edge = (lost - won) / count, 1 - 1e-9

    def beyond(drop: float) -> float:
        return float(score(lost, won, count, drop))

    low = -1.0 if beyond(-edge) < z else float(optimize.brentq(lambda d: beyond(d) - z, -edge, value))
    high = 1.0 if beyond(edge) > -z else float(optimize.brentq(lambda d: beyond(d) + z, value, edge))
    return Estimate(value, low, high)


def images_needed(lost: int, won: int, count: int, limit: float, most: int = 10_000_000) -> int | None:
    """About how many images would prove ``drop ≤ limit`` if they disagreed as often as these; None if never."""
    if (lost - won) / count >= limit:
        return None

    def proves(n: int) -> bool:
        return score_drop(round(lost * n / count), round(won * n / count), n).high <= limit

    low, high = count, 2 * count
    while not proves(high):
        low, high = high, high * 2
        if high > most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proves(middle) else (middle, high)
    return high
