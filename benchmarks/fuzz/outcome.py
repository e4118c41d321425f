"""Runs a case and says what is wrong with what came of it, if anything is."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.evidence import ROOT
from benchmarks.fuzz.box import Case
from benchmarks.fuzz.cases import drawn
from benchmarks.fuzz.corpus import at, cli_status
from benchmarks.fuzz.once import shorter_report
from benchmarks.fuzz.replay import Replayed, device, no_stage_runs

SENTINEL = "sentinel"
TRACE = re.compile(r"Traceback|^  File ", re.MULTILINE)
ALONE_S = 60  # a real command beside other work
WHOLE = 20  # every so many cases write a whole report, with its pictures


@dataclass(frozen=True)
class Outcome:
    """What a case came to; ``wrong`` is empty where all is well."""

    kind: str
    command: str
    status: int
    said: str
    wrong: str


def tried(seed: int, number: int, corpus: Path, place: Path, alone: bool = False) -> Outcome:
    """One case in its box, which is gone afterwards.

    ``alone``: as a real command, unless it would ask a device or train.
    """
    box = place / "box"
    shutil.rmtree(box, ignore_errors=True)
    kind, case = drawn(seed, number, corpus, box)
    for name in ("home", "tmp"):
        (place / name).mkdir(exist_ok=True)
    sentinel(place / SENTINEL)
    before = surroundings(place)
    run = by_command if alone and not case.results and case.words[0] != "deploy" else in_process
    status, out, err = run(case, corpus, place, number % WHOLE == 0)
    wrong = faults(case, status, out, err)
    if (after := surroundings(place)) != before:
        wrong = wrong or f"changed outside its folder: {sorted(set(after.items()) ^ set(before.items()))[:3]}"
    if left := [path.name for path in (place / "tmp").iterdir()]:
        wrong = wrong or f"left behind: {left}"
    shutil.rmtree(place / "tmp")
    return Outcome(kind, " ".join(case.words), status, err[-2000:], wrong)


def sentinel(folder: Path) -> None:
    """Files that a path out of the box would reach."""
    if not folder.exists():
        folder.mkdir()
        for name in ("kept.txt", "model.onnx", "bundle.json"):
            (folder / name).write_text(name)


def surroundings(place: Path) -> dict[str, tuple[int, int]]:
    """Each file beside the box with its size and time; the home's caches are there to be written."""
    found = {}
    for folder, folders, files in os.walk(place):
        if Path(folder) == place:
            folders[:] = [name for name in folders if name not in ("box", "tmp", "said")]
        folders[:] = [name for name in folders if name not in (".cache", ".config")]
        for name in (*folders, *files):
            status = os.lstat(path := os.path.join(folder, name))
            found[path] = (status.st_size, 0 if name in folders else status.st_mtime_ns)
    return found


def faults(case: Case, status: int, out: str, err: str) -> str:
    """What is wrong with a command's ending: at most one line, and an exit status that fits it."""
    lines = [line for line in err.splitlines() if not line.startswith("  ")]  # progress stands off the edge
    if status < 0:
        return f"ended by signal {signal.Signals(-status).name}"
    if TRACE.search(err + out):
        return "a traceback"
    if status not in case.statuses:
        return f"exit status {status}"
    if case.sealed and status == 0:
        return "changed under its digest, and passed"
    refused = status == 2 or (status == 3 and "report: " not in out)
    if len(lines) != int(refused):
        return f"{len(lines)} lines of error at exit status {status}"
    if lines and not (lines[0].startswith("retort: ") and lines[0].isprintable()):
        return "a line that is not clean"
    return ""


def by_command(case: Case, corpus: Path, place: Path, whole: bool) -> tuple[int, str, str]:
    """As its user would give it."""
    command = [sys.executable, "-m", "pipeline.cli.main", *case.words]
    environment = {**os.environ, **own_places(place), "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        command, cwd=place / "box", env=environment, capture_output=True, timeout=ALONE_S, check=False
    )
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def own_places(place: Path) -> dict[str, str]:
    return {
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "tmp"),
        "RETORT_CACHE": str(place / "home/.cache"),
    }


def in_process(case: Case, corpus: Path, place: Path, whole: bool) -> tuple[int, str, str]:
    """By the command's entry; no stage runs, and a device's answers are given from what is kept."""
    os.environ.update(own_places(place))
    tempfile.tempdir = None
    own = case.results.startswith("results/")
    kept = place / "box" / case.results if own else corpus / "results" / case.results
    asked = device(Replayed, kept) if case.results else nullcontext()
    report = nullcontext() if whole else shorter_report()
    with at(place / "box"), caught(place) as said, asked, no_stage_runs(), report:
        status: Any = cli_status(*case.words)
    return int(status), *(path.read_text("utf-8", "replace") for path in said)


@contextmanager
def caught(place: Path) -> Iterator[tuple[Path, Path]]:
    """What this process and the libraries in it write to its outputs goes to two files."""
    (place / "said").mkdir(exist_ok=True)
    files = place / "said" / "out", place / "said" / "err"
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number, path in enumerate(files, 1):
            with path.open("wb") as file:
                os.dup2(file.fileno(), number)
        yield files
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in enumerate(kept, 1):
            os.dup2(copy, number)
            os.close(copy)
