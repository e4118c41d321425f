"""One contender in a process of its own: ``python -m benchmarks.training.sides NAME SPEC.json`` prints figures."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.methods import network, take
from benchmarks.packs import load
from benchmarks.training import plain
from pipeline.compute import distributed
from pipeline.data.decoded import TEST, TRAIN, Decoded
from pipeline.recipe.schema import Distill
from pipeline.schemes.base import Setup
from pipeline.schemes.offline import Offline, offline
from pipeline.training import loop
from targets.runner.environment import memory_peak

EPOCHS = 240  # of the training that is begun here: what is worth compiling is chosen for the whole of it
METHODS = {"kd": [{"name": "kd"}], "srkd": [{"name": "kd"}, {"name": "srkd"}]}


def scheme_of(spec: dict[str, Any], data: Decoded, scratch: Path, **more: Any) -> tuple[Offline, Distill]:
    torch.manual_seed(0)
    teacher, student = (network(name, spec["classes"]) for name in spec["pair"])
    settings = {"epochs": EPOCHS, "batch": spec["batch"], "lr": 0.05, "loss": METHODS[spec["method"]], **more}
    recipe = Distill.model_validate(settings)
    return offline(Setup(student, student, [teacher], data, recipe, "distill", scratch)), recipe


def ours(spec: dict[str, Any], data: Decoded, scratch: Path, **more: Any) -> Iterator[int]:
    """Retort's own loop, an epoch after the other, without the look at the validation split that follows each."""
    scheme, recipe = scheme_of(spec, data, scratch, **more)
    run = loop.Run(scheme, data, recipe.training, scratch / "run.pt")
    run.choose = lambda epoch: None  # type: ignore[method-assign]
    run.compile_teachers()
    for epoch in range(EPOCHS):
        run.epoch(epoch, "ours")
        yield len(run.indices) // recipe.batch * recipe.batch


def replayed(spec: dict[str, Any], data: Decoded, scratch: Path) -> Iterator[int]:
    """The same, the teacher's answers to one set of views on disk: asked in the first epoch, which is warm-up."""
    return ours(spec, data, scratch, replay=1)


def public(spec: dict[str, Any], data: Decoded, scratch: Path) -> Iterator[int]:
    return plain.steps(data, scheme_of(spec, data, scratch, precision="float32")[0], spec["batch"])


SIDES: dict[str, Callable[[dict[str, Any], Decoded, Path], Iterator[int]]] = {
    "plain": public,
    "ours": ours,
    "ours, replayed": replayed,
}


def timed(steps: Iterator[int], warm: int, seconds: float) -> float:
    """Images a second, once so many have been seen."""
    while warm > 0:
        warm -= next(steps)
    started, seen = time.perf_counter(), 0
    while agreed(time.perf_counter() - started) < seconds:
        seen += next(steps)
    return seen / (time.perf_counter() - started)


def agreed(value: float) -> float:
    """The mean over all ranks, so that they do the same."""
    shared = torch.tensor([value], dtype=torch.float64)
    distributed.all_reduce_mean([shared])
    return float(shared)


def main(name: str, file: Path) -> None:
    spec = json.loads(file.read_text())
    data = take(load(spec["data"]), spec["classes"], -(-spec["images"] // spec["classes"]))
    # So many and no more: whole batches, so that none is left over that a teacher was not asked about.
    data.split[data.part(TRAIN)[spec["images"] :]] = TEST
    distributed.join()
    with tempfile.TemporaryDirectory() as scratch:
        rate = timed(SIDES[name](spec, data, Path(scratch)), spec["warm"], spec["seconds"])
    peak = distributed.ranks() * agreed(memory_peak() or 0)
    if distributed.rank() == 0:
        print(json.dumps({"images_per_second": rate, "peak_bytes": peak}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
