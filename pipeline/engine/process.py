"""A stage's work in a process of its own, so that torch lives and dies with the stage that needs it.

``python -m pipeline.engine.process JOB.json PIPE`` is the child; its refusal comes back as a line through the pipe.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from pipeline.engine.job import Job, Resources
from pipeline.engine.stage_error import ending
from pipeline.engine.store import digest, write_json
from targets.devices.base import QUIET
from targets.errors import UNDECIDED, Broken, Refusal, Unmeasurable
from targets.runner.files import cache_folder

ROOT = Path(__file__).parents[2]
# Threads that wait spin a moment and then sleep. On an idle machine a step takes a fifth less than without spinning;
# on a busy one libgomp's own default, and much spinning, take up to ten times as long (benchmarks/LOG.md).
PATIENT = {"GOMP_SPINCOUNT": "1000"}
CLEARING_S = 5.0  # from SIGTERM to a stage's end: the time to remove its temporary folders
ORPHANED_S = 2.0  # the same when the parent was killed; the next run removes the folders that are left
KINDS = {kind.status: kind for kind in (Refusal, Unmeasurable, Broken)}


@dataclass(frozen=True)
class Work:
    """All that a stage's process reads from its job file, the resources aside."""

    stage: str
    settings: Mapping[str, Any]
    parents: Mapping[str, Path]
    inputs: Mapping[str, Path]
    out: Path
    scratch: Path
    trains: bool = False

    @property
    def meeting(self) -> str:
        """The same on all machines that do this stage of this recipe, and of this stage alone."""
        return digest([self.stage, self.settings])


def work(job: Work, resources: Resources) -> None:
    """Do it in a process of its own; its refusal becomes ours."""
    job_file = job.scratch / "job.json"
    write_json(job_file, {**asdict(job), "resources": asdict(resources)})
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    compiled = {"TORCHINDUCTOR_CACHE_DIR": str(Path(cache_folder()) / "torchinductor")}  # it outlives a run
    environment = {
        **PATIENT,
        **compiled,
        **os.environ,
        **QUIET,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    # The user's folder must not shadow our modules (a recipe's pipeline.py, say).
    environment["PYTHONSAFEPATH"] = "1"
    start, together = ["pipeline.engine.process"], resources.processes * resources.nodes > 1 and job.trains
    if together:
        environment.setdefault("OMP_NUM_THREADS", threads(resources.processes))
        start = ["pipeline.engine.torchrun", job.meeting]
    ear, mouth = os.pipe()  # for a refusal: a file could not be written on a full disk
    command = [sys.executable, "-m", *start, str(job_file), str(mouth)]
    # stdin never carries anything: it closes when this process dies, and then the child goes too.
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, pass_fds=(mouth,)) as child:
        os.close(mouth)
        try:
            with os.fdopen(ear) as told:
                said = told.readline()
            if said and together:  # the other ranks may wait for the one that refused
                child.terminate()
            status = child.wait()
        except BaseException:  # a signal ends this process, and so the stage's
            end(child)
            raise
    if said:
        refusal = json.loads(said)
        raise KINDS[refusal["status"]](refusal["message"])
    if status != 0:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise Unmeasurable(f"{job.stage} {how}; run again, it goes on where it stopped")


def end(child: subprocess.Popen[bytes]) -> None:
    """Tell a stage to end, and wait until it has cleared away."""
    child.terminate()
    try:
        child.wait(CLEARING_S)
    except subprocess.TimeoutExpired:
        child.kill()


def threads(processes: int) -> str:
    """Of each of so many processes that share this machine."""
    return str(max(1, (os.cpu_count() or 1) // processes))


def main(job_file: Path, mouth: int) -> None:
    """The child's side: run the stage, tell the parent of a refusal through ``mouth``, an open pipe."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal's are the parent's to hear, which tells us
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, unwind)
    threading.Thread(target=follow_parent, daemon=True).start()
    logging.getLogger("torch.utils._pytree").addFilter(lambda record: False)  # deprecations of torchao's own
    raw = json.loads(job_file.read_text())
    stage, resources = raw["stage"], Resources(**raw["resources"])
    out, rank = Path(raw["out"]), int(os.environ.get("LOCAL_RANK", "0"))
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun lets no pipe through, but it has it
        mouth = os.open(f"/proc/{os.getppid()}/fd/{mouth}", os.O_WRONLY)
    if rank > 0:  # only rank 0's files are kept, and only what it says is shown
        out = Path(raw["scratch"]) / f"rank {rank}"
        out.mkdir(exist_ok=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    job = Job(
        settings=raw["settings"],
        parents={name: Path(path) for name, path in raw["parents"].items()},
        inputs={name: Path(path) for name, path in raw["inputs"].items()},
        out=out,
        scratch=Path(raw["scratch"]),
        resources=resources,
    )
    try:
        importlib.import_module(f"pipeline.stages.{stage}").run(job)
    except Exception as error:  # the border of the process: whatever it is becomes one line
        leave(mouth, *ending(error, stage, job.scratch), resources.debug)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # too late: Python is about to end


def unwind(number: int, _: object) -> NoReturn:
    """End by way of every ``with``, so that temporary folders and the runner go too."""
    raise SystemExit(128 + number)


def follow_parent() -> None:
    os.read(0, 1)  # blocks until the other end of the pipe is gone
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHANED_S)
    os._exit(UNDECIDED)


def leave(mouth: int, message: str, status: int, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    os.write(mouth, json.dumps({"message": message, "status": status}).encode() + b"\n")
    raise SystemExit(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
