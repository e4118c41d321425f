"""A device whose answers lie in a folder: recorded once by the real runner in this process, then given again.

So a file is judged in milliseconds, and what a device answers can be changed before it is read.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from targets.devices import connect
from targets.devices.base import Local
from targets.errors import Unmeasurable
from targets.measuring import measure
from targets.runner.__main__ import main as runner
from targets.runner.ending import end_unless_asked_again

TIMED = 5  # processes whose times are kept; later ones answer as these


def name_of(job: dict[str, Any]) -> str:
    """What a job's result is kept as: ``look``, ``build-float``, ``answer-float``, ``time-0``."""
    what = job["do"]
    if what == "time":
        return f"time-{job['seed'] % TIMED}"
    return f"{what}-{Path(job['engine']).stem}" if "engine" in job else str(what)


class Recording(Local):
    """Runs the runner here, without a process of its own, and keeps what it wrote."""

    kept = Path()

    def start(self, job: str) -> tuple[int, str]:
        (self.folder / "job.json").write_text(job)
        before, asked = Path.cwd(), json.loads(job)
        os.chdir(self.folder)
        try:
            status = runner("job.json")
        finally:
            end_unless_asked_again(0)
            os.chdir(before)
        for file, suffix in ((asked["result"], ".json"), (asked.get("answers"), ".npy")):
            if file is not None:
                shutil.copyfile(self.folder / file, self.kept / f"{name_of(asked)}{suffix}")
        return status, ""


class Replayed(Local):
    """Answers by what lies in ``kept``; as a device does whose runner fails where there is nothing."""

    kept = Path()

    def start(self, job: str) -> tuple[int, str]:
        asked = json.loads(job)
        for file, suffix in ((asked["result"], ".json"), (asked.get("answers"), ".npy")):
            source = self.kept / f"{name_of(asked)}{suffix}"
            if file is not None and not source.is_file():
                return 1, f"nothing is kept of {source.name}"
            if file is not None:
                shutil.copyfile(source, self.folder / file)
        return 0, ""


@contextmanager
def device(kind: type[Recording] | type[Replayed], folder: Path) -> Iterator[None]:
    """In place of this machine, a device of that kind with that folder."""
    local = type("Local", (kind,), {"kept": folder})
    with mock.patch.object(connect, "Local", local), mock.patch.object(measure, "Local", local):
        yield


@contextmanager
def no_stage_runs() -> Iterator[None]:
    """What a recipe would train is not begun: the door is what is tried."""

    def refuse(job: Any, resources: object) -> None:
        raise Unmeasurable(f"{job.stage}: here a stage would run, and none does")

    with stages_by(refuse):
        yield


@contextmanager
def stages_by(work: Callable[[Any, Any], None]) -> Iterator[None]:
    from pipeline.engine import stage

    with mock.patch.object(stage, "work", work):
        yield
