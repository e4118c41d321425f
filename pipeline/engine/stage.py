"""A stage: one room's work as a process of its own, with a key that says all it depends on.

The orchestrator describes stages and asks for them; ``python -m pipeline.engine.stage JOB.json`` does the work, so
that torch lives and dies with the stage that needs it.
"""

from __future__ import annotations

import ast
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from pipeline.engine.job import NODES, PROCESSES, Job
from pipeline.engine.store import Store, Workplace, digest, digest_file, write_json
from targets.devices.base import QUIET
from targets.errors import UNDECIDED, Refusal, Unmeasurable

PACKAGE = Path(__file__).parents[1]
# What changes tensors when it changes; the rest of the environment does not make an artifact stale.
VERSIONS = (
    "torch",
    "torchvision",
    "torchao",
    "timm",
    "onnx",
    "onnxscript",
    "numpy",
    "pillow",
    "scikit-learn",
)


# Threads that wait spin a moment and then sleep. On an idle machine a step takes a fifth less than without spinning;
# on a busy one libgomp's own default, and much spinning, take up to ten times as long (benchmarks/LOG.md).
PATIENT = {"GOMP_SPINCOUNT": "1000"}
TRAINING = ("teach", "distill", "prune", "quantize")


@dataclass(frozen=True)
class Stage:
    """A room's work, described but not done.

    ``inputs`` are files outside the store (weights, a user's factory); they count by content.
    """

    room: str
    settings: Mapping[str, Any]
    parents: Mapping[str, Stage] = field(default_factory=dict)
    inputs: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        parts = {
            "settings": self.settings,
            "parents": {name: stage.key for name, stage in self.parents.items()},
            "inputs": {name: digest_file(path) for name, path in self.inputs.items()},
            "code": code_digest(f"pipeline.stages.{self.room}"),
            "versions": versions(),
        }
        return f"{self.room}-{digest(parts)}"


@cache
def versions() -> dict[str, str]:
    found = {}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def imports_of(module: str) -> list[str]:
    """The project's own modules that a module's source imports, anywhere in it."""
    path = source_of(module)
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [
        name for name in found if name.split(".")[0] in ("pipeline", "targets") and source_of(name).is_file()
    ]


def source_of(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def code_digest(module: str) -> str:
    """Digest of a module's source and of all the project's modules that it reaches by import."""
    reached, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += imports_of(name)
    return digest({name: digest_file(source_of(name)) for name in reached})


def ensure(stage: Stage, store: Store, say: Callable[[str], None]) -> Path:
    """Make the stage and all it stands on, unless they are there; returns its folder."""
    if store.has(stage.key):
        return store.path(stage.key)
    parents = {name: ensure(parent, store, say) for name, parent in stage.parents.items()}
    with store.make(stage.key, lambda: say(f"{stage.room:<9} another run is making it; waiting")) as place:
        if place is not None:
            origin = {
                "room": stage.room,
                "settings": stage.settings,
                "parents": {name: parent.key for name, parent in stage.parents.items()},
                "versions": versions(),
            }
            started = time.monotonic()
            work({**origin, "parents": parents, "inputs": stage.inputs}, place)
            seconds = round(time.monotonic() - started, 1)
            write_json(place.out / "origin.json", {**origin, "seconds": seconds})
            say(f"{stage.room:<9} {seconds:5.1f} s")
    return store.path(stage.key)


def work(job: dict[str, Any], place: Workplace) -> None:
    """Run a job in a process of its own; its refusal becomes ours."""
    job_file = place.scratch / "job.json"
    write_json(job_file, {**job, "out": place.out, "scratch": place.scratch})
    paths = [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**PATIENT, **os.environ, **QUIET, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    ear, mouth = os.pipe()  # for a refusal: a file could not be written on a full disk
    # The user's folder must not shadow our modules (a recipe's pipeline.py, say).
    environment["PYTHONSAFEPATH"] = "1"
    processes, nodes = (int(environment.get(name, "1")) for name in (PROCESSES, NODES))
    start, together = ["pipeline.engine.stage"], processes * nodes > 1 and job["room"] in TRAINING
    if together:
        environment.setdefault("OMP_NUM_THREADS", threads(processes))
        # Not the key: that has this machine's paths.
        start = ["pipeline.engine.torchrun", digest([job["room"], job["settings"]])]
    command = [sys.executable, "-m", *start, str(job_file), str(mouth)]
    # stdin never carries anything: it closes when this process dies, and then the child goes too.
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, pass_fds=(mouth,)) as child:
        os.close(mouth)
        with os.fdopen(ear) as told:
            said = told.readline()
        if said and together:  # the other ranks may wait for the one that refused
            child.terminate()
        status = child.wait()
    if said:
        refusal = json.loads(said)
        raise (Unmeasurable if refusal["status"] == UNDECIDED else Refusal)(refusal["message"])
    if status != 0:
        ending = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise Unmeasurable(f"{job['room']} {ending}; run again, it goes on where it stopped")


def threads(processes: int) -> str:
    """Of each of so many processes that share this machine."""
    return str(max(1, (os.cpu_count() or 1) // processes))


def main(job_file: Path, mouth: int) -> None:
    """The child's side: run the room, tell the parent of a refusal through ``mouth``, an open pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to hear; we go with it
    threading.Thread(target=follow_parent, daemon=True).start()
    logging.getLogger("torch.utils._pytree").addFilter(lambda record: False)  # torchao's own deprecations
    raw = json.loads(job_file.read_text())
    out, rank = Path(raw["out"]), int(os.environ.get("LOCAL_RANK", "0"))
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun lets no pipe through, but it has it
        mouth = os.open(f"/proc/{os.getppid()}/fd/{mouth}", os.O_WRONLY)
    if rank > 0:  # its network is the first one's: nobody reads what it writes, nor what it says
        out = Path(raw["scratch"]) / f"rank {rank}"
        out.mkdir(exist_ok=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    job = Job(
        settings=raw["settings"],
        parents={name: Path(path) for name, path in raw["parents"].items()},
        inputs={name: Path(path) for name, path in raw["inputs"].items()},
        out=out,
        scratch=Path(raw["scratch"]),
    )
    try:
        importlib.import_module(f"pipeline.stages.{raw['room']}").run(job)
    except Refusal as refusal:
        leave(mouth, str(refusal), refusal.status)
    except ModuleNotFoundError as error:
        leave(mouth, f"{raw['room']}: {error}; pip install 'retort[train]'", UNDECIDED)
    except OSError as error:
        leave(mouth, f"{raw['room']}: {error}; free or mend it and run again", UNDECIDED)
    except Exception as error:  # the border of the process: what is not foreseen becomes one line as well
        line = (str(error).splitlines() or [""])[0]
        leave(mouth, f"{raw['room']}: {type(error).__name__}: {line} (--debug shows where)", UNDECIDED)


def follow_parent() -> None:
    os.read(0, 1)  # blocks until the other end of the pipe is gone
    os._exit(UNDECIDED)


def leave(mouth: int, message: str, status: int) -> NoReturn:
    if os.environ.get("RETORT_DEBUG"):
        traceback.print_exc()
    os.write(mouth, json.dumps({"message": message, "status": status}).encode() + b"\n")
    raise SystemExit(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
