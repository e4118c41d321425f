"""The budgets of what a candidate takes: its file's size and its process's memory, in MB of 10^6 bytes."""

from __future__ import annotations

from targets.budgets.budget import POSITIVE, Budget, Found
from targets.budgets.evidence import Evidence
from targets.stats.intervals import Estimate

MB = 1_000_000


def size(evidence: Evidence) -> Found:
    return counted(evidence.candidate.size_bytes)


def memory(evidence: Evidence) -> Found:
    peak = evidence.candidate.memory_bytes
    return Found(None, "not readable there") if peak is None else counted(peak)


def counted(size_bytes: int) -> Found:
    """Counted, not estimated: an interval without width."""
    value = size_bytes / MB
    return Found(Estimate(value, value, value))


COST = (
    Budget("size_mb", "MB", "at_most", "size of the file", POSITIVE, "cost", size),
    Budget("memory_mb", "MB", "at_most", "peak memory of the process that runs it", POSITIVE, "cost", memory),
)
