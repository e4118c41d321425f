"""What is recorded: long traces of a real session's processes, and live trials of the whole gate."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.gate.planted import planted, working
from targets.diagnose.noise import bench_of
from targets.gate.gate import Given, gate
from targets.limits import Budgets
from targets.progress import Bar
from targets.spec.contract import Contract
from targets.spec.profile import Profile
from targets.stats.intervals import LOOKS, Blocks, quantiles, ratios

SLOWER = (0.0, 2.5, 5.0, 7.5, 10.0)  # per cent, as planted; what it came to is measured
BUDGET = 5.0
CALIBRATION = (5, 40), 12  # operators more in two files, processes
Row = dict[str, Any]


class Kept:
    """Rows in a file, a line each: who stops goes on."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def rows(self) -> list[Row]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def add(self, row: Row) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def variants(model: Path, contract: Contract, profile: Profile, folder: Path) -> dict[str, Path]:
    """The file, and copies that are slower by about as much as their names say."""
    proto, (units, processes) = onnx.load(model), CALIBRATION
    index = folder / "units.json"
    if not index.exists():
        slow = {str(count): planted(proto, count, folder / f"slow {count}.onnx") for count in units}
        with bench_of({"plain": model, **slow}, contract, profile) as (bench, three):
            timed = [bench.time(three, 1.0, seed)["blocks"] for seed in range(processes)]
        few, many = (
            100
            * (float(np.median(ratios([one[name] for one in timed], [one["plain"] for one in timed]))) - 1)
            for name in slow
        )
        each = (many - few) / (units[1] - units[0])
        counts = {slower: max(0, round(units[0] + (slower - few) / each)) for slower in SLOWER}
        index.write_text(
            json.dumps({str(slower): count if slower else 0 for slower, count in counts.items()})
        )
    counts = json.loads(index.read_text())
    return {name: planted(proto, count, folder / f"{name}.onnx") for name, count in counts.items()}


def record(
    files: dict[str, Path], contract: Contract, profile: Profile, kept: Kept, condition: str, processes: int
) -> None:
    """Processes one after another, each timing all variants in turns; what each showed of each."""
    files = {"baseline": files[str(SLOWER[0])], **files}
    # So that each has as many blocks as in the gate, where two share the time.
    seconds = profile.seconds / LOOKS[-1] * len(files) / 2
    have = len(kept.rows())
    with (
        working(condition),
        bench_of(files, contract, profile) as (bench, everything),
        Bar(condition, processes, have) as bar,
    ):
        for number in range(have, processes):
            started = time.monotonic()
            done = bench.time(everything, seconds, number)
            took = time.monotonic() - started
            shown = {name: told(done["blocks"], name) for name in files}
            kept.add(
                {"start_s": took - seconds, "load": done["after"]["load"], "when": time.time(), "of": shown}
            )
            bar.step()


def told(blocks: dict[str, Blocks], name: str) -> Row:
    """What the gate and the usual rules make of one process's times of one file; seconds."""
    mine, base = blocks[name], blocks["baseline"]
    calls = np.concatenate([np.asarray(block) for block in mine])
    both = [mine], [base]
    p50, p99 = (quantiles([mine], q)[0] for q in (0.5, 0.99))
    return {
        "ratio": ratios(*both)[0],
        "p99_ratio": p99 / quantiles([base], 0.99)[0],
        "p50": p50,
        "mean_20": float(calls[:20].mean()),
        "best_5": float(calls[:5].min()),
        "count": len(calls),
        "mean": float(calls.mean()),
        "variance": float(calls.var(ddof=1)),
    }


def live(
    files: dict[str, Path],
    images: Path,
    profile: Profile,
    kept: Kept,
    condition: str,
    slower: Sequence[float],
    trials: int,
) -> None:
    """The gate as users run it, again and again: fresh sessions and processes on both sides each time."""
    have = {(row["slower"], row["trial"]) for row in kept.rows()}
    todo = [(trial, name) for trial in range(trials) for name in slower if (name, trial) not in have]
    with (
        working(condition),
        Bar(f"live, {condition}", len(todo)) as bar,
        tempfile.TemporaryDirectory() as out,
    ):
        for trial, name in todo:
            started = time.monotonic()
            budgets = Budgets(slower_than_baseline=BUDGET)
            baseline = files[str(SLOWER[0])]
            table = gate(Given(files[str(name)], images, profile), budgets, Path(out), baseline)
            target = table["targets"][0]
            (line,) = target["lines"]
            kept.add(
                {
                    "slower": name,
                    "trial": trial,
                    "outcome": line["outcome"],
                    "found": line["estimate"],
                    "processes": target["protocol"]["processes"],
                    "seconds": time.monotonic() - started,
                    "load": target["environment"]["load"],
                }
            )
            bar.step(f"{name:g} %: {line['outcome']}")
