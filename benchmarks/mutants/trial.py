"""A copy of the project in which a fault is planted, and the tests that are run there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evidence import ROOT
from benchmarks.mutants.planted import Mutant
from targets.errors import Refusal

SLOWER, MORE_S = 4, 120  # a run may take so many times as long as without the fault, and so much more
FIRST_S = 900  # without a fault
OUTCOMES = {0: "survived", 1: "killed", -signal.SIGALRM: "timed out"}


@dataclass(frozen=True)
class Run:
    """How a set of tests ended; ``status`` is pytest's, negative where a signal ended it."""

    status: int
    seconds: float
    failed: str  # the first test that did
    said: str


class Trial:
    """The tracked files in a folder of their own; what is planted there is taken out again."""

    def __init__(self, folder: Path) -> None:
        self.place, self.scratch = folder / "project", folder / "scratch"
        self.whole: dict[tuple[str, ...], Run] = {}  # of each set of tests, without a fault
        copy_tracked(self.place)
        quiet = {
            "GOMP_SPINCOUNT": "1000",
            "ORT_DISABLE_TELEMETRY": "1",
        }  # as the tests set it before they import
        own = {"PYTHONPATH": str(self.place), "TMPDIR": str(self.scratch)}
        self.server = subprocess.Popen(
            [sys.executable, "-P", str(self.place / "benchmarks" / "mutants" / "server.py")],
            cwd=self.place,
            env={**os.environ, **quiet, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.terminate()
        self.server.communicate()

    def of(self, one: Mutant) -> tuple[str, Run]:
        """What came of a fault. Raises Refusal where its tests fail without it, or judge nothing with it."""
        sound = self.sound(one.tests)
        with self.planted(one):
            run = self.run(one.tests, MORE_S + int(SLOWER * sound.seconds))
        if run.status not in OUTCOMES or (run.status == 1 and not run.failed):
            raise Refusal(
                f"mutant {one.name}: no test has judged it (pytest: {run.status}): {run.said[-400:]}"
            )
        return OUTCOMES[run.status], run

    @contextmanager
    def planted(self, one: Mutant) -> Iterator[None]:
        """The right file comes back with its time of change, by which its bytecode is known."""
        path = self.place / one.file
        right, status = path.read_bytes(), path.stat()
        path.write_text(one.planted, encoding="utf-8")
        try:
            yield
        finally:
            path.write_bytes(right)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def sound(self, tests: tuple[str, ...]) -> Run:
        if tests not in self.whole:
            self.whole[tests] = self.run(tests, FIRST_S, keep=True)
        run = self.whole[tests]
        if run.status != 0:
            raise Refusal(
                f"{' '.join(tests)}: they fail without a fault, so they tell nothing: {run.said[-400:]}"
            )
        return run

    def run(self, tests: tuple[str, ...], limit: int, keep: bool = False) -> Run:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        said = self.scratch / "said.txt"
        assert self.server.stdin is not None and self.server.stdout is not None, "both are pipes"
        started = time.monotonic()
        print(
            json.dumps({"tests": tests, "limit": limit, "said": str(said), "keep": keep}),
            file=self.server.stdin,
            flush=True,
        )
        status = int(self.server.stdout.readline())
        seconds, text = round(time.monotonic() - started, 1), said.read_text(errors="replace")
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
        return Run(status, seconds, failed[1] if failed else "", text)


def copy_tracked(place: Path) -> None:
    """The project as it lies here, without what git does not know."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # not one that was removed and is still in git's index
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
