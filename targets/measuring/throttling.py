"""What a long spell of work does to a device: how much slower it ends than it began, and what it read meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

THROTTLED = 1.05  # from here on it is called so: beyond what a clock wanders at rest
Windows = Sequence[Mapping[str, Any]]


def throttling(windows: Windows) -> dict[str, Any]:
    """The curve of the windows in times the beginning's latency, and in words.

    The beginning and the end are a tenth of the windows each, at least one. Throttled: every candidate's end is
    slower than its beginning by more than 5 %, so that no single one's bad luck is taken for it.
    """
    edge = max(1, len(windows) // 10)
    names = list(windows[0]["median"])
    times = np.array([[one["median"][name] for name in names] for one in windows])
    curve = times / np.median(times[:edge], axis=0)
    ends = {name: float(end) for name, end in zip(names, np.median(curve[-edge:], axis=0), strict=True)}
    throttled = min(ends.values()) > THROTTLED
    return {
        "seconds": float(windows[-1]["at"]),
        "ends": ends,
        "throttled": throttled,
        "says": says(windows, ends, throttled),
        "curve": {
            "at": [one["at"] for one in windows],
            **{name: [float(x) for x in curve[:, i]] for i, name in enumerate(names)},
        },
    }


def says(windows: Windows, ends: Mapping[str, float], throttled: bool) -> str:
    """``throttled after 8 min of work: int8 1.31 times as slow as at first; 41 to 84 °C; 1,500 to 1,100 MHz``"""
    told = [f"{name} {end:.2f} times as slow as at first" for name, end in ends.items()]
    first, last = windows[0]["state"], windows[-1]["state"]
    for key, unit in (("celsius", "°C"), ("mhz", "MHz")):
        if key in first and key in last:
            told.append(f"{first[key]:,.0f} to {last[key]:,.0f} {unit}")
    word = "throttled" if throttled else "not throttled"
    return f"{word} after {windows[-1]['at'] / 60:.1f} min of work: {'; '.join(told)}"
