"""The scale of a tensor from what it held on calibration images: the one with the least squared error.

Counts of sizes are kept instead of values, so memory does not grow with the number of images.
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 2048
CANDIDATES = 100  # limits that are tried, evenly spread up to the largest size
SMALLEST_SHARE = 0.2  # of the largest size: no smaller limit is tried


class Histogram:
    """How often each size |x| occurred, in equal bins from 0 to ``top``; a larger size doubles the bins' width."""

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.float64)
        self.top, self.largest = 0.0, 0.0

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Raises ValueError for what is not a number."""
        sizes = x.detach().float().abs().flatten()
        largest = float(sizes.max())
        if not largest < float("inf"):
            raise ValueError(f"a tensor holds {largest} on calibration images")
        self.largest = max(self.largest, largest)
        self.top = self.top or largest
        while self.top < largest:
            self.counts = torch.cat([self.counts.view(-1, 2).sum(1), self.counts.new_zeros(BINS // 2)])
            self.top *= 2
        if self.top:
            self.counts += torch.histc(sizes.cpu(), BINS, 0, self.top).double()

    def scale(self, steps: int) -> float:
        """The step of the grid with ``steps`` steps a side on which rounding costs the least squared error."""
        if not self.largest:
            return 1.0
        middles = (torch.arange(BINS, dtype=torch.float64) + 0.5) * (self.top / BINS)
        shares = torch.linspace(SMALLEST_SHARE, 1.0, CANDIDATES, dtype=torch.float64)
        scales = (shares * self.largest / steps)[:, None]
        rounded = (middles / scales).round().clamp_max(steps) * scales
        errors = ((rounded - middles).square() * self.counts).sum(1)
        return float(scales[errors.argmin()])
