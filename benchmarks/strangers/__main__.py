"""``python -m benchmarks.strangers``: networks and constructs × the steps of the line, each ok, refused or a finding.

One process a subject, so that a crash is a row too. Results are written after each subject, and a run goes on where
another stopped: what has a row is not run again unless it is named. The evidence is results/strangers.md.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.evidence import RESULTS, circumstances, commit, finished, now, write
from benchmarks.strangers import steps
from benchmarks.strangers.constructs import NAMES
from benchmarks.strangers.networks import NETWORKS
from benchmarks.strangers.table import markdown, was_run
from targets.progress import Bar

WAIT_S = 1200  # beside the limit of a subject's own work, for one that waits for ever
SUBJECTS = (*NETWORKS, *NAMES)
# Forked from one that has imported what takes the longest, and nothing else.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["benchmarks.strangers.steps", "litert_torch"])


def main(
    only: Annotated[
        list[str] | None, typer.Argument(help="Networks or constructs; all without a row.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Begin no further subject after so long.")] = 600,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Try each subject on every step, and say what came of it."""
    unknown = [name for name in only or () if name not in SUBJECTS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}; known: {', '.join(SUBJECTS)}")
    os.environ["OMP_NUM_THREADS"] = "1"
    before, begun, rows = circumstances(), time.monotonic(), kept(out)
    todo = only or [name for name in SUBJECTS if not was_run(rows.get(name, {}))]
    with Bar("strangers", len(todo)) as bar:
        for name in todo:
            if time.monotonic() - begun > 60 * minutes:
                break
            rows[name] = {"name": name, **tried(name), "when": now(), "source": commit()}
            bar.step(name)
            table = {"rows": [rows[each] for each in SUBJECTS if each in rows], "run": finished(before)}
            write(out, "strangers", table, markdown(table))


def kept(out: Path) -> dict[str, dict[str, Any]]:
    """The rows of earlier runs; each says when it was and of which source."""
    file = out / "strangers.json"
    return (
        {row["name"]: row for row in json.loads(file.read_text(encoding="utf-8"))["rows"]}
        if file.exists()
        else {}
    )


def tried(name: str) -> dict[str, Any]:
    """One subject in a process of its own; what it had not come to when it ended is a finding."""
    if name.startswith("timm/") and importlib.util.find_spec("timm") is None:
        return {"cells": {}, "seconds": 0.0, "skipped": "timm is not installed"}
    started, line = time.monotonic(), ""
    with tempfile.TemporaryDirectory(prefix="strangers-") as folder:
        cells = Path(folder) / "cells.jsonl"
        process = CONTEXT.Process(target=steps.main, args=(name, str(cells)))
        process.start()
        process.join(WAIT_S)
        if process.is_alive():
            process.kill()
            line = f"not done in {WAIT_S} s"
        elif process.exitcode == -signal.SIGXCPU:
            line = f"not done in {steps.LIMIT_S} s of the processor"
        elif process.exitcode:
            line = f"the process ended with {process.exitcode}"
        process.join()
        found = read(cells)
    row = {"cells": found, "seconds": round(time.monotonic() - started, 1)}
    return {**row, "ended": line} if line else row


def read(file: Path) -> dict[str, Any]:
    lines: Sequence[str] = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return dict(map(json.loads, lines))


if __name__ == "__main__":
    typer.run(main)
