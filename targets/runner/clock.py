"""The one clock: every backend and every target is warmed up, timed and counted here, host to host.

Models are timed in turns, a block of calls each, in an order drawn anew every round: what the machine does
meanwhile falls on all of them alike. Nothing is thrown away.
"""

from __future__ import annotations

import random
import time
from typing import Any, Callable

BLOCK_S = 0.02
STEADY = 0.05
WARMUP_BLOCKS = (3, 40)
WINDOWS = 100

Timer = Callable[[], float]


def timed(call: Callable[[], object], count: int, timer: Timer) -> list[float]:
    """Seconds of each of ``count`` calls."""
    times = []
    for _ in range(count):
        start = timer()
        call()
        times.append(timer() - start)
    return times


def median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def warm_up(call: Callable[[], object], timer: Timer = time.perf_counter) -> int:
    """Call until two blocks in a row agree to 5 %, at most 40 blocks; returns the calls that make a block."""
    once = median(timed(call, 3, timer))
    count = max(1, min(50, int(BLOCK_S / max(once, 1e-9))))
    before = None
    for number in range(WARMUP_BLOCKS[1]):
        now = median(timed(call, count, timer))
        if before is not None and number >= WARMUP_BLOCKS[0] and abs(now - before) <= STEADY * before:
            break
        before = now
    return count


def timer_facts(timer: Timer = time.perf_counter) -> dict[str, float]:
    """Seconds that a reading of the clock takes (median of many) and the smallest step that it shows."""
    reads = [timer() for _ in range(2000)]
    steps = [reads[i + 1] - reads[i] for i in range(len(reads) - 1)]
    return {"overhead_s": median(steps), "step_s": min([step for step in steps if step > 0] or [0.0])}


def sustained(
    calls: dict[str, Callable[[], object]],
    seconds: float,
    seed: int,
    state: Callable[[], dict[str, float]],
    timer: Timer = time.perf_counter,
) -> list[dict[str, Any]]:
    """Work without a pause: in each of a hundred windows each call's median, seconds, and the machine's state."""
    windows: list[dict[str, Any]] = []
    start, window = timer(), seconds / WINDOWS
    while timer() - start < seconds:
        at = timer() - start
        blocks = rounds(calls, window, seed + len(windows), timer)
        medians = {name: median([t for block in mine for t in block]) for name, mine in blocks.items()}
        windows.append({"at": at, "median": medians, "state": state()})
    return windows


def rounds(
    calls: dict[str, Callable[[], object]], seconds: float, seed: int, timer: Timer = time.perf_counter
) -> dict[str, list[list[float]]]:
    """Timed blocks of each call, at least three, until the time is over: {name: [[seconds, …], …]}."""
    counts = {name: warm_up(call, timer) for name, call in calls.items()}
    order, shuffle = list(calls), random.Random(seed)
    blocks: dict[str, list[list[float]]] = {name: [] for name in calls}
    end = timer() + seconds
    while timer() < end or len(blocks[order[0]]) < 3:
        shuffle.shuffle(order)
        for name in order:
            blocks[name].append(timed(calls[name], counts[name], timer))
    return blocks
