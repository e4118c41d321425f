"""A run that is told to end: its processes end with it, and nothing of the user's images stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support import ROOT
from support.endless import endless
from support.processes import below, runs
from targets.devices import emulator
from targets.errors import UNDECIDED

PROFILE = 'about = "quick"\nbackend = "onnxruntime"\nseconds = 0.5\n'
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Start = Callable[..., "subprocess.Popen[str]"]
installed = pytest.mark.skipif(not emulator.home().exists(), reason="not installed; retort emulator install")


@pytest.fixture
def start(photos: Path, tmp_path: Path) -> Iterator[Start]:
    """``retort gate`` of a file that never answers, with a folder of its own for what is temporary."""
    endless(tmp_path / "endless.onnx")
    (tmp_path / "tmp").mkdir()
    started: list[subprocess.Popen[str]] = []

    def gate(before: tuple[str, ...] = (), profile: str = PROFILE) -> subprocess.Popen[str]:
        (tmp_path / "quick.toml").write_text(profile)
        words = [
            "gate",
            "endless.onnx",
            "--images",
            "photos",
            "--budget",
            "accuracy=1",
            "--target",
            "quick.toml",
        ]
        command = [*before, sys.executable, "-m", "pipeline.cli.main", *words]
        environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)
        )
        return started[-1]

    yield gate
    for one in started:
        one.kill()
        one.communicate()


def answering(run: subprocess.Popen[str], folder: Path) -> int:
    """Wait until its runner is asked for answers; the runner's process."""
    while not any('"do": "answer"' in job.read_text() for job in (folder / "tmp").rglob("job.json")):
        with suppress(subprocess.TimeoutExpired):
            run.wait(0.1)
            pytest.fail(run.communicate()[1])
    runner = None
    while runner is None:
        runner = below(run.pid, "runner")
    return runner


def wait_for_the_end_of(process: int) -> None:
    while runs(process):
        pass


@pytest.mark.parametrize("number", SIGNALS, ids=lambda one: one.name)
def test_a_signal_ends_the_runner_and_leaves_nothing(
    number: signal.Signals, start: Start, tmp_path: Path
) -> None:
    """Of SIGTERM under nohup: what that ignores stays ignored."""
    run = start(before=("nohup",) if number is signal.SIGTERM else ())
    runner = answering(run, tmp_path)
    assert list((tmp_path / "tmp").iterdir()), "the images are there"
    if number is signal.SIGTERM:
        run.send_signal(signal.SIGHUP)
    run.send_signal(number)
    said = run.communicate()[1]
    assert run.returncode == 128 + number
    assert "Traceback" not in said and said.splitlines()[-1].startswith(f"retort: ended by {number.name}")
    assert not runs(runner)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_runner_ends_with_the_process_that_started_it(start: Start, tmp_path: Path) -> None:
    run = start()
    runner = answering(run, tmp_path)
    run.kill()
    run.communicate()
    wait_for_the_end_of(runner)


CHILD = (
    "import sys; from runner.ending import end_with; end_with(int(sys.argv[1])); print('ready', flush=True); "
)
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([*sys.argv[1:], str(os.getpid())])
print(child.pid, flush=True)
child.wait()
"""


@installed
def test_an_emulated_one_too() -> None:
    words = [*emulator.command(emulator.home(), "cortex-a76"), "-c", f"{CHILD}sys.stdin.read()"]
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PARENT, *words]
    with subprocess.Popen(command, cwd=ROOT / "targets", stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdout
        said = [parent.stdout.readline().strip() for _ in range(2)]
        parent.kill()
        wait_for_the_end_of(int(said[said[0] == "ready"]))


def test_an_answer_that_never_comes_is_waited_for_so_long(start: Start, tmp_path: Path) -> None:
    run = start(profile=f"{PROFILE}patience = 1\n")
    said = run.communicate()[1]
    assert run.returncode == UNDECIDED
    assert "no answer within 1 s" in said and "patience" in said and said.count("\n") == 1
    assert list((tmp_path / "tmp").iterdir()) == []
