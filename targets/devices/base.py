"""What a device is, seen from the host: put files there, run a job of the runner there, get files back."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol

from targets.devices.results import read_result
from targets.errors import Unmeasurable, first_line
from targets.runner.backends import OWN

RUNNER = Path(__file__).parent.with_name("runner")
# ONNX Runtime would leave a number for the machine in the user's home and send what it does to its vendor.
QUIET = {"ORT_DISABLE_TELEMETRY": "1"}


class Device(Protocol):
    """A place with a folder of its own; names are files in that folder."""

    def put(self, file: Path, name: str) -> None: ...

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do a runner's job; its result. Raises Unmeasurable when the runner or its runtime cannot."""
        ...

    def get(self, name: str, file: Path) -> None: ...


def backend_job(device: Device, name: str) -> dict[str, Any]:
    """The part of every job that says which backend does it; the file of a registered one is put there first."""
    file = Path(OWN[name]) if name in OWN else None
    if file is not None:
        device.put(file, file.name)
    return {"backend": name, "backend_file": file and file.name}


class RunnerFolder(ABC):
    """A folder with the runner in it, on whichever machine: how a job goes in and its result comes out."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)

    @abstractmethod
    def start(self, job: str) -> tuple[int, str]:
        """Write ``job.json`` and run the runner on it; its exit status and what it said on stderr."""

    @abstractmethod
    def read(self, name: str) -> bytes: ...

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        # A name of its own for each: an older result is never taken for this job's.
        name = f"result-{next(self.numbers)}.json"
        status, said = self.start(json.dumps({**job, "result": name}))
        if status == -signal.SIGALRM:
            raise Unmeasurable(
                f"{job['backend']}: no answer within {job['patience']} s at '{job['do']}', so it was ended;"
                " where one takes longer: patience = SECONDS in the target's profile"
            )
        if status != 0:
            last = (printable(said) or [f"exit status {status}"])[-1]
            raise Unmeasurable(f"the runner failed at '{job['do']}' with {job['backend']}: {last}")
        try:
            result = read_result(self.read(name), job)
        except (ValueError, FileNotFoundError) as error:
            told = printable(first_line(error))
            raise Unmeasurable(
                f"the runner's result of '{job['do']}' with {job['backend']} cannot be used: {' '.join(told)}"
            ) from None
        if "missing" in result:
            raise Unmeasurable(result["missing"])
        return result


class Local(RunnerFolder):
    """This machine, through the same copied runner as any other."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.command = [sys.executable]
        # What is set for this Python (paths, safe path) is not meant for the runner.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self.environment = {**clean, **QUIET}
        shutil.copytree(RUNNER, folder / "runner", ignore=shutil.ignore_patterns("__pycache__"))

    def put(self, file: Path, name: str) -> None:
        (self.folder / name).symlink_to(file.resolve())

    def get(self, name: str, file: Path) -> None:
        shutil.copyfile(self.folder / name, file)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def start(self, job: str) -> tuple[int, str]:
        (self.folder / "job.json").write_text(job)
        # A session of its own: what the runner starts (a vendor's tool) is in its group and ends with it.
        with subprocess.Popen(
            [*self.command, "-m", "runner", "job.json", str(os.getpid())],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as runner:
            try:
                said = runner.communicate()[1]
            except BaseException:  # a signal ends this process, and so the runner's
                os.killpg(runner.pid, signal.SIGKILL)
                raise
        return runner.returncode, said


def printable(text: str) -> list[str]:
    """The lines of what a program said, without what could steer a terminal."""
    lines = ("".join(filter(str.isprintable, line)).strip() for line in text.splitlines())
    return [line for line in lines if line]
