"""report: everything a run found, as one table of plain values, and the files made from it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.budgets.evidence import Measured, TestSet
from targets.budgets.latency import QUANTILES
from targets.budgets.line import Line
from targets.errors import FAILED, PASSED, UNDECIDED
from targets.measuring.candidate import Measurement
from targets.provenance.seal import seal
from targets.report import render, strips
from targets.runner.files import atomic_write
from targets.spec.profile import Profile
from targets.stats.intervals import milliseconds, quantile
from targets.tasks import TASKS
from targets.tasks.task import Task, estimate, same_answers
from targets.verdict import Verdict, plain_float

VERSION = version("retort")
KEPT_TIMES = 2000  # of each candidate, evenly spread, for the picture of the distribution


def target_table(
    profile: Profile,
    device: str,
    verdict: Verdict,
    test_set: TestSet,
    measurement: Measurement | None,
    networks: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """One target's part of the report: verdict, candidates, where and how it was measured (if it was)."""
    costs = {table["name"]: {key: table[key] for key in ("macs", "parameters")} for table in networks}
    found = measurement.candidates if measurement else {}
    return {
        "target": profile.name,
        "about": profile.about,
        "device": device,
        "status": verdict.status,
        "ship": verdict.ship,
        "reason": verdict.reason,
        "speed_vs_float": asdict(verdict.speed) if verdict.speed else None,
        "plain_float": plain_float(found),
        "lines": [line_table(line) for line in verdict.lines],
        "rejected": {name: [line_table(line) for line in lines] for name, lines in verdict.rejected.items()},
        "candidates": {
            name: candidate_table(one, test_set, profile.batch) | costs.get(one.network, {})
            for name, one in found.items()
        },
        "environment": measurement.environment if measurement else {},
        "protocol": measurement.protocol if measurement else {},
        "throttling": measurement.throttling if measurement else {},
    }


def line_table(line: Line) -> dict[str, Any]:
    return {**asdict(line), "outcome": line.outcome.value}


def candidate_table(found: Measured, test_set: TestSet, batch: int) -> dict[str, Any]:
    return {
        **answers_table(found.logits, test_set),
        **(latency_table(found, batch) if found.blocks else {}),
        **agreement_table(found, TASKS[test_set.task]),
        "artifact": found.artifact.name,
        "size_bytes": found.size_bytes,
        "memory_bytes": found.memory_bytes,
        "facts": found.facts,
    }


def latency_table(found: Measured, batch: int) -> dict[str, Any]:
    if found.no_tails:
        return {"latency_ms": {"p50": asdict(milliseconds(quantile(found.blocks, 0.5)))}}
    times = np.concatenate([np.asarray(block) for process in found.blocks for block in process])
    return {
        "latency_ms": {
            name: asdict(milliseconds(quantile(found.blocks, q))) for name, q in QUANTILES.items()
        },
        "images_per_second": batch / float(times.mean()),
        "timed_calls": len(times),
        "times_ms": [round(1000 * float(t), 5) for t in times[:: max(1, len(times) // KEPT_TIMES)]],
    }


def agreement_table(found: Measured, task: Task) -> dict[str, Any]:
    """The same file's answers on the device and by ONNX Runtime on this machine, in two processes."""
    if found.here is None:
        return {}
    same, largest = same_answers(task, found.logits, found.here), np.abs(found.logits - found.here).max()
    return {"agreement": {"same": asdict(same), "largest": float(largest)}}


def answers_table(logits: NDArray[np.float32], test_set: TestSet) -> dict[str, Any]:
    """The task's score with its interval, and what else the task tells: for classes, the recall of each."""
    task = TASKS[test_set.task]
    records = task.records(logits, test_set.labels)
    return {task.metric: asdict(estimate(task, records)), **task.details(records, test_set)}


def network_table(
    name: str, facts: dict[str, Any], logits: NDArray[np.float32], test_set: TestSet
) -> dict[str, Any]:
    """A rung of the ladder that was answered in the workshop: facts are network, parameters, macs."""
    return {"name": name, **facts, **answers_table(logits, test_set)}


def compose(
    recipe: str, test_set: TestSet, networks: list[dict[str, Any]], targets: list[dict[str, Any]], **more: Any
) -> dict[str, Any]:
    """The whole report: ``networks`` and ``targets`` are the tables above; ``more`` is taken as it is."""
    statuses = {target["status"] for target in targets}
    return {
        "retort": VERSION,
        "recipe": recipe,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": next((s for s in (FAILED, UNDECIDED) if s in statuses), PASSED),
        "task": test_set.task,
        "metric": TASKS[test_set.task].metric,
        "classes": list(test_set.classes),
        "test_images": len(test_set.labels),
        **TASKS[test_set.task].facts(test_set.labels, test_set.classes),
        "networks": networks,
        "targets": targets,
        **more,
    }


def strict(value: Any) -> Any:
    """The table as JSON has it, which knows neither infinity nor what is no number: null is an end without bound."""
    if isinstance(value, dict):
        return {name: strict(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_report(table: dict[str, Any], folder: Path) -> None:
    """The page, what other programs read, and the papers of each target's files, in ``folder``.

    Other files there are left alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.json": json.dumps(strict(table), indent=1, allow_nan=False),
        "report.html": render.html(table),
        "summary.md": render.summary(table),
        "junit.xml": render.junit(table),
        "budgets.svg": strips.budgets(render.printable(table)),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text.encode())
    for target in table["targets"]:
        if (folder / target["target"]).is_dir():
            seal(table, target, render.model_card(table, target), folder / target["target"])
