"""``python -m runner JOB.json [PARENT]``: do one job on this device, write ``result.json`` (and answers) beside it.

A job is ``{"do": "look" | "build" | "answer" | "time" | …, "backend": …, "options": {…}, …}``; see JOBS. With the
process number of its parent it ends when that one does. ``patience`` is how many seconds an answer may take.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Callable
from typing import Any, TypedDict

import numpy as np

from .backends import Runtime, Session, backend, register
from .clock import rounds, sustained, timer_facts
from .ending import end_unless_asked_again, end_with
from .environment import environment, memory_peak, state
from .files import atomic_write
from .images import Feed, Images

TIMED_IMAGES = 32


class Engine(TypedDict):
    """One of those that are timed in turns."""

    engine: str
    options: dict[str, Any]


class Job(TypedDict, total=False):
    """What a job may say; a verb of JOBS tells what it reads. Paths are in its folder, times in seconds."""

    do: str
    backend: str
    backend_file: str | None
    result: str
    patience: int
    options: dict[str, Any]
    model: str
    engine: str
    images: str
    feed: Feed
    answers: str
    models: str
    inputs: str
    engines: dict[str, Engine]
    seconds: float
    seed: int
    shapes: str


def build(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Make the engine of a model: ``{"model", "engine"}``."""
    return {"facts": runtime.build(job["model"], job["options"], job["engine"])}


def answer(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Answer every image with one engine: ``{"engine", "images", "feed", "answers"}``.

    One engine a process, so that the peak of memory is its own.
    """
    feed = job["feed"]
    images = Images(job["images"], feed)
    session = runtime.load(job["engine"], job["options"])
    answers = []
    for batch in images.batches(job["options"]["batch"]):
        end_unless_asked_again(job.get("patience", 0))
        answers.append(session({feed["input"]: batch})[feed["output"]])
    found = np.concatenate(answers)[: len(images)]  # the last batch is filled up
    np.save(job["answers"], found.astype(np.float32))
    return {"memory_bytes": memory_peak(), "images": len(images)}


def trace(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Every tensor that a model gives: ``{"model", "engine", "images", "feed", "answers"}``."""
    runtime.build(job["model"], job["options"], job["engine"])
    images, session = Images(job["images"], job["feed"]), runtime.load(job["engine"], job["options"])
    found = []
    for batch in images.batches(job["options"]["batch"]):
        end_unless_asked_again(job.get("patience", 0))
        found.append(session({job["feed"]["input"]: batch}))
    tensors: dict[str, Any] = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    np.savez(job["answers"], **tensors)
    return {"images": len(images)}


def cases(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Small models, each by itself: ``{"models", "inputs", "answers"}``, the bytes by name, arrays by NAME/INPUT.

    What one of them raises is told by its name, and the next one runs.
    """
    with np.load(job["models"]) as kept, np.load(job["inputs"]) as arrays:
        models, fed = dict(kept), dict(arrays)
    answers: dict[str, Any] = {}
    facts, raised = {}, {}
    for name, content in models.items():
        try:
            content.tofile("case.onnx")
            facts[name] = runtime.build("case.onnx", job["options"], "case.engine")
            session = runtime.load("case.engine", job["options"])
            inputs = {key[len(name) + 1 :]: fed[key] for key in fed if key.startswith(name + "/")}
            answers.update((name, values) for values in session(inputs).values())
        except Exception as error:  # of any runtime's own kind
            raised[name] = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    np.savez(job["answers"], **answers)
    return {"facts": facts, "raised": raised}


def clock(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Time engines in turns: ``{"engines": {name: {"engine", "options"}}, "images", "feed", "seconds", "seed"}``."""
    return {"blocks": rounds(callers(job, runtime), job["seconds"], job["seed"]), "timer": timer_facts()}


def sustain(job: Job, runtime: Runtime) -> dict[str, Any]:
    """The same without a pause, for what heat does; of each window its medians alone."""
    return {"windows": sustained(callers(job, runtime), job["seconds"], job["seed"], state)}


def callers(job: Job, runtime: Runtime) -> dict[str, Callable[[], object]]:
    """A call of each engine, each with the same images in turn."""
    feed = job["feed"]
    images = Images(job["images"], feed)
    shuffle = random.Random(job["seed"])
    engines = list(job["engines"].items())
    batch = engines[0][1]["options"]["batch"]
    last = max(0, len(images) - batch)
    inputs = [images.batch(shuffle.randint(0, last), batch) for _ in range(TIMED_IMAGES)]

    def caller(session: Session) -> Callable[[], object]:
        turn = 0

        def call() -> object:
            nonlocal turn
            turn += 1
            return session({feed["input"]: inputs[turn % len(inputs)]})

        return call

    shuffle.shuffle(engines)  # where a session lies in memory is luck: draw it anew in each process
    return {name: caller(runtime.load(one["engine"], one["options"])) for name, one in engines}


def vendor(job: Job, runtime: Runtime) -> dict[str, Any]:
    """The vendor's own figures for an engine: ``{"engine", "shapes"}``."""
    assert runtime.vendor is not None, "asked only of a backend that has it"
    return {"vendor": runtime.vendor(job["engine"], job["shapes"])}


def look(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Nothing but the environment, which every result carries."""
    return {}


JOBS = {
    "look": look,
    "build": build,
    "answer": answer,
    "trace": trace,
    "cases": cases,
    "time": clock,
    "sustain": sustain,
    "vendor": vendor,
}


def main(path: str) -> int:
    with open(path) as file:
        job: Job = json.load(file)
    if "patience" in job:
        end_unless_asked_again(job["patience"] + math.ceil(job.get("seconds", 0)))
    own = job.get("backend_file")
    if own:
        register(job["backend"], own)
    runtime = backend(job["backend"])
    why = runtime.missing()
    result: dict[str, Any] = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    if why is not None:
        result["missing"] = why
    else:
        result["before"] = environment()
        result.update(JOBS[job["do"]](job, runtime))
        result["after"] = environment()
    with atomic_write(job["result"]) as file:
        file.write(json.dumps(result).encode())
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 2:
        end_with(int(sys.argv[2]))
    sys.exit(main(sys.argv[1]))
