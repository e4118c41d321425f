"""``python -m benchmarks.strangers``: networks and constructs × the steps of the line, each ok, refused or a finding.

One process a subject, so that a crash is a row too. Results are written after each subject, and a run goes on where
another stopped: what has a row is not run again unless it is named. The evidence is results/strangers.md.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.evidence import RESULTS, ROOT, circumstances, commit, finished, now, write
from benchmarks.strangers.constructs import NAMES
from benchmarks.strangers.networks import NETWORKS
from benchmarks.strangers.table import markdown
from targets.progress import Bar

LIMIT_S = 240
SUBJECTS = (*NETWORKS, *NAMES)


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
    before, begun, rows = circumstances(), time.monotonic(), kept(out)
    todo = only or [name for name in SUBJECTS if name not in rows]
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
        command = [sys.executable, "-m", "benchmarks.strangers.steps", name, str(cells)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": folder}
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
            line = f"the process ended with {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            line = f"not done in {LIMIT_S} s"
        found = read(cells)
    row = {"cells": found, "seconds": round(time.monotonic() - started, 1)}
    return {**row, "ended": line} if line else row


def read(file: Path) -> dict[str, Any]:
    lines: Sequence[str] = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return dict(map(json.loads, lines))


if __name__ == "__main__":
    typer.run(main)
