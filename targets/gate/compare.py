"""compare: what one ONNX file is against another, with no budget: latency, accuracy, answers, size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

from targets.baselines.baseline import baseline_file
from targets.budgets.cost import MB
from targets.budgets.evidence import Measured, TestSet
from targets.budgets.line import per_cent_more, points
from targets.gate.gate import CANDIDATE, Given, asked
from targets.measuring.candidate import Candidate, Measurement
from targets.measuring.measure import measure
from targets.report.terminal import figures
from targets.stats.intervals import (
    LOOK_LEVEL,
    Blocks,
    Estimate,
    milliseconds,
    quantile,
    quantile_ratio,
    ratio,
)
from targets.tasks import TASKS
from targets.tasks.task import estimate_drop, same_answers

Against = Callable[[Blocks, Blocks, float], Estimate]
PRECISE = 0.01  # half an interval of a ratio of latencies that is enough to be told


def compare(old: Path, new: Given) -> list[str]:
    """Lines of a table of both, timed until a per cent is told; ``old`` takes the same images, or is a lock."""
    with asked(new) as ask:
        path = baseline_file(old, ask.contract, ask.work)
        both = Candidate("old", path, "float32"), Candidate(CANDIDATE, new.model, "float32")
        found = measure(
            both, ask.contract, new.profile, new.device, ask.images, ask.work / "out", enough=precise
        )
    how = f"not timed: {found.untimed}" if found.untimed else f"{found.protocol['processes']} processes"
    head = ("", "old", "new", f"new against old, {how}")
    cells = [head, *rows(found.candidates["old"], found.candidates[CANDIDATE], ask.test_set)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def precise(found: Measurement) -> bool:
    times = ratio(found.candidates[CANDIDATE].blocks, found.candidates["old"].blocks, LOOK_LEVEL)
    return times.high - times.low <= 2 * PRECISE * times.value


def rows(old: Measured, new: Measured, test_set: TestSet) -> Iterator[tuple[str, ...]]:
    timed: list[tuple[str, float, Against]] = [("p50", 0.5, ratio)] if new.blocks else []
    if new.blocks and not new.no_tails:
        timed.append(("p99", 0.99, tail_ratio))
    for name, q, against in timed:
        times = against(new.blocks, old.blocks, LOOK_LEVEL)
        both = [f"{figures(milliseconds(quantile(one.blocks, q)).value)} ms" for one in (old, new)]
        yield f"latency {name}", *both, said(per_cent_more(times), "%")
    task = TASKS[test_set.task]
    records = [task.records(one.logits, test_set.labels) for one in (old, new)]
    scores = [f"{task.score(one):.2%}" for one in records]
    # What the old file loses against the new one is what the new one gains.
    yield task.metric, *scores, said(points(estimate_drop(task, *records)), "points")
    alike = same_answers(task, new.logits, old.logits)
    yield "same answers", "", "", f"{alike.value:.2%} [{alike.low:.2%}, {alike.high:.2%}]"
    sizes = [f"{figures(one.size_bytes / MB)} MB" for one in (old, new)]
    yield "size", *sizes, f"{new.size_bytes / old.size_bytes - 1:+.1%}"


def tail_ratio(new: Blocks, old: Blocks, level: float) -> Estimate:
    return quantile_ratio(new, old, 0.99, level)


def said(found: Estimate, unit: str) -> str:
    value, low, high = (x + 0.0 for x in (found.value, found.low, found.high))  # no -0
    if math.isinf(high):
        return f"{value:+.2f} {unit}, of too few processes for an interval"
    return f"{value:+.2f} {unit} [{low:+.2f}, {high:+.2f}]"
