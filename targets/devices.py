"""Where a runner runs, seen from the host: put files there, run a job there, get files back."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from targets.refusal import Refusal, Unmeasurable, unknown

RUNNER = Path(__file__).with_name("runner")
SSH, EMULATOR, ADB = "ssh://", "emulator:", "adb://"
# Not "max": its matrix extension makes QEMU ten times slower.
CPUS = {
    "cortex-a72": "no dot product, as in a Raspberry Pi 4",
    "cortex-a76": "dot product, as in a Raspberry Pi 5",
    "neoverse-n2": "int8 matrix products, as in an Arm server",
}
# ONNX Runtime would leave a number for the machine in the user's home and send what it does to its vendor.
QUIET = {"ORT_DISABLE_TELEMETRY": "1"}
# Names that can be mistaken neither for options nor for words of a shell, wherever ssh hands them on.
USER, HOST = r"[\w.][\w.-]*", r"[\w.][\w.-]*|\[[\da-fA-F:.]+(?:%\w+)?\]"
SERIAL = re.compile(r"[\w.][\w.:-]*", re.ASCII)
ADDRESS = re.compile(rf"ssh://(?:(?P<user>{USER})@)?(?P<host>{HOST})(?::(?P<port>\d{{1,5}}))?", re.ASCII)


class Device(Protocol):
    """A place with a folder of its own; names are files in that folder."""

    def put(self, file: Path, name: str) -> None: ...

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do a runner's job; its result. Raises Unmeasurable when the runner or its runtime cannot."""
        ...

    def get(self, name: str, file: Path) -> None: ...


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
        if status != 0:
            last = (printable(said) or [f"exit status {status}"])[-1]
            raise Unmeasurable(f"the runner failed at '{job['do']}' with {job['backend']}: {last}")
        result: dict[str, Any] = json.loads(self.read(name))
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
        done = subprocess.run(
            [*self.command, "-m", "runner", "job.json"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr


def printable(text: str) -> list[str]:
    """The lines of what a program said, without what could steer a terminal."""
    lines = ("".join(filter(str.isprintable, line)).strip() for line in text.splitlines())
    return [line for line in lines if line]


def read_address(name: str) -> tuple[list[str], str]:
    """``ssh://user@host:port`` as ssh's options and its host. Raises Refusal."""
    found = ADDRESS.fullmatch(name)
    if found is None or not 0 < int(found["port"] or 22) < 65536:
        shown = re.sub(r"//.*@", "//…@", name)  # a password may stand there
        raise Refusal(
            f"DEVICE: '{shown}' is no address of the form ssh://user@host:port;"
            " user and port may be left out, and a password is never in it"
        )
    port = ["-p", found["port"]] if found["port"] else []
    user = ["-l", found["user"]] if found["user"] else []
    return [*port, *user], found["host"].strip("[]")


def check_device(name: str) -> None:
    """Raises Refusal for a kind of device that there is not, or an address that is none."""
    if name.startswith(SSH):
        read_address(name)
    elif name.startswith(EMULATOR):
        if name.removeprefix(EMULATOR) not in CPUS:
            raise unknown("emulated processor", name.removeprefix(EMULATOR), CPUS, "DEVICE")
    elif name.startswith(ADB):
        if not SERIAL.fullmatch(name.removeprefix(ADB)):
            raise Refusal(f"DEVICE: '{name}' has no serial number behind adb://, as adb devices lists them")
    elif name != "local":
        known = f"local, ssh://user@host:port, adb://serial, emulator:{'|'.join(CPUS)}"
        raise Refusal(f"DEVICE: no device '{name}'; known: {known}")


@contextmanager
def open_device(name: str) -> Iterator[Device]:
    """The device a user named, for as long as it is needed."""
    check_device(name)
    if name.startswith(SSH):
        from targets.ssh import Ssh

        with Ssh(name) as device:
            yield device
    else:
        with tempfile.TemporaryDirectory(prefix="retort-") as folder:
            if name == "local":
                yield Local(Path(folder))
            elif name.startswith(ADB):
                from targets.adb import Phone

                with Phone(Path(folder), name.removeprefix(ADB)).held() as phone:
                    yield phone
            else:
                from targets.emulator import Emulated

                yield Emulated(Path(folder), name.removeprefix(EMULATOR))
