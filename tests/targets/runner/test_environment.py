"""What the runner tells of its own process."""

from __future__ import annotations

import resource
import sys

import pytest

from targets.runner.environment import memory_peak


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read where Linux tells it")
def test_the_peak_of_memory_is_in_bytes() -> None:
    """Beside the system's own count, which is in kilobytes and may round by pages."""
    told = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert 0.5 * told < (memory_peak() or 0) < 2 * told
