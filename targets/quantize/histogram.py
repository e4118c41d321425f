"""How large a tensor's values are over calibration images, and where to cut them off.

Counts of sizes are kept instead of values, so memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

BINS = 2048
CANDIDATES = 100  # limits that are tried, evenly spread up to the largest size
SMALLEST_SHARE = 0.2  # of the largest size: no smaller limit is tried
KEPT = 0.9999  # of the sizes, by the percentile


class Histogram:
    """How often each size |x| occurred, in equal bins from 0 to ``top``; a larger size doubles the bins' width."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS)
        self.top, self.largest = 0.0, 0.0

    def add(self, x: NDArray[np.floating]) -> None:
        """Raises ValueError for what is not a number."""
        sizes = np.abs(x.reshape(-1))
        largest = float(sizes.max())
        if not largest < float("inf"):
            raise ValueError(f"a tensor holds {largest} on calibration images")
        self.largest = max(self.largest, largest)
        self.top = self.top or largest
        while self.top < largest:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2)])
            self.top *= 2
        if self.top:
            bins = np.minimum((sizes * (BINS / self.top)).astype(np.int32), BINS - 1)
            self.counts += np.bincount(bins, minlength=BINS)

    def squared_error(self, steps: int) -> float:
        """The limit of the grid with ``steps`` steps a side on which rounding costs the least squared error."""
        middles = (np.arange(BINS) + 0.5) * (self.top / BINS)
        limits = np.linspace(SMALLEST_SHARE, 1.0, CANDIDATES) * self.largest
        scales = (limits / steps)[:, None]
        rounded = np.minimum((middles / scales).round(), steps) * scales
        errors = (np.square(rounded - middles) * self.counts).sum(1)
        return float(limits[errors.argmin()])

    def percentile(self, steps: int) -> float:
        """The size that all but one of ten thousand values keep to."""
        below = np.cumsum(self.counts) / self.counts.sum()
        return float(min((np.searchsorted(below, KEPT) + 1) * self.top / BINS, self.largest))

    def scale(self, steps: int, limit: Callable[[Histogram, int], float] | None = None) -> float:
        """The step of the grid with ``steps`` steps a side; by default with the least squared error."""
        return (limit or Histogram.squared_error)(self, steps) / steps if self.largest else 1.0


LIMITS: dict[str, Callable[[Histogram, int], float]] = {
    "squared error": Histogram.squared_error,
    "percentile": Histogram.percentile,
    "largest": lambda histogram, steps: histogram.largest,
}
