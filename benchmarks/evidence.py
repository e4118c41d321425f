"""What every benchmark's result carries: when, where, by which versions, how busy the machine was."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from targets.runner.environment import environment, read
from targets.runner.files import atomic_write

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).with_name("results")
BUSY = 1.0  # load average above which somebody else has most of a core
PACKAGES = (
    "retort",
    "torch",
    "torchvision",
    "torch-pruning",
    "onnx",
    "onnxruntime",
    "openvino",
    "numpy",
)


def circumstances() -> dict[str, Any]:
    """A snapshot of the machine before a run; ``after`` is added by ``finished``."""
    return {"started": now(), "commit": commit(), "versions": versions(), "before": environment()}


def finished(before: dict[str, Any]) -> dict[str, Any]:
    return {**before, "ended": now(), "after": environment()}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Which state of the source ran; ``+`` where the code of the line differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "pipeline", "targets")
    return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'}{'+' if changed else ''}"


def told(run: dict[str, Any]) -> list[str]:
    """The lines that go with a table: when, where, by which versions."""
    before, after = run["before"], run["after"]
    packages = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return [
        f"{run['started']} to {run['ended']}, source {run['commit']}.",
        f"{before['cpu']['model']} ({' '.join(before['cpu']['features'])}), {before['cores']} cores,"
        f" host {before['host']}; load average {before['load']:.2f} before, {after['load']:.2f} after.",
        f"Python {before['python']}; {packages}.",
    ]


def busy(run: dict[str, Any]) -> list[str]:
    """A warning where the machine had other work when the run began; for what is timed."""
    load, cores = run["before"]["load"], run["before"]["cores"]
    if load <= BUSY:
        return []
    return [
        f"**WARNING: the machine was busy** (load average {load:.2f} on {cores} cores before the run):"
        " ratios taken under load can be off, even reversed. Run again on an idle machine before you quote one.",
        "",
    ]


def rows_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def write(folder: Path, name: str, table: dict[str, Any], lines: Sequence[str]) -> None:
    """NAME.json and NAME.md, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"{name}.json": json.dumps(table, indent=1), f"{name}.md": "\n".join(lines)}
    for file, text in texts.items():
        with atomic_write(folder / file) as kept:
            kept.write((text.rstrip("\n") + "\n").encode())


def cores_busy(seconds: float = 1.0) -> float | None:
    """How many cores work while this process sleeps: others' work, which a load average tells too late.

    None where the system does not say.
    """
    before = ticks()
    time.sleep(seconds)
    after = ticks()
    if before is None or after is None or after[1] <= before[1]:
        return None
    idle, total = after[0] - before[0], after[1] - before[1]
    return round((1 - idle / total) * (os.cpu_count() or 1), 2)


def ticks() -> tuple[int, int] | None:
    """Idle and all ticks of all cores since the start of the machine."""
    first = (read("/proc/stat") or "").splitlines()[:1]
    counts = [int(word) for word in first[0].split()[1:9]] if first else []
    return (counts[3] + counts[4], sum(counts)) if len(counts) == 8 else None
