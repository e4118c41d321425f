"""prune: cut the student's channels towards a goal, then train it again with the teacher.

The goal is a share of the multiply-adds, or a share of the int8 latency on the target, which is measured: each
probe is calibrated, exported and timed beside the uncut student by the one clock.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import load, save_file
from torch import nn

from pipeline.artifacts import checkpoint
from pipeline.compute import distributed
from pipeline.data import decoded
from pipeline.data.batches import plain_batches
from pipeline.data.decoded import TRAIN, Decoded
from pipeline.engine.job import Job
from pipeline.engine.store import write_json
from pipeline.models.tapped_model import Model
from pipeline.pruning.channels import cuts
from pipeline.pruning.criteria import NEED_GRADIENTS
from pipeline.pruning.shapes import changed, resize, shapes_of
from pipeline.recipe.schema import Prune
from pipeline.schemes import build
from pipeline.schemes.base import Setup
from pipeline.search.latency_probe import PROBES, Probe
from pipeline.tasks import TASKS
from pipeline.training import loop
from targets.errors import Refusal

GRADIENT_IMAGES = 256


def run(job: Job) -> None:
    distributed.join()
    recipe = Prune.model_validate(job.settings["prune"])
    data = decoded.read(job.parents["data"])
    described, student = (
        checkpoint.read(job.parents["student"]),
        checkpoint.load_model(job.parents["student"]),
    )
    torch.manual_seed(recipe.seed)
    before = loop.validation_score(student, data)
    index, tensors = job.scratch / "cut.json", job.scratch / "cut.safetensors"
    # Only rank 0 cuts, once, and the others load its file: another rank, or another run, could end elsewhere.
    if distributed.rank() == 0 and not index.exists():
        made = copy.deepcopy(student)
        reached, shapes = cut_student(made, data, recipe, job)
        save_file(checkpoint.tensors_of(made), tensors)
        write_json(index, {"reached": reached, "shapes": shapes})
    kept = json.loads(distributed.broadcast_file(index))
    resize(student.network, kept["shapes"])
    student.load_state_dict(load(distributed.broadcast_file(tensors)))
    after = loop.validation_score(student, data)
    teachers = checkpoint.load_teachers(job.parents)
    setup = Setup(student, student, teachers, data, recipe, "prune", job.scratch)
    history = loop.fit(build(setup), data, recipe.training, job.scratch, "prune", job.resources.tensorboard)
    checkpoint.save(job.out, described.edited(edit="cut", shapes=kept["shapes"]), student)
    validation = {"before": before, "cut": after, "trained": loop.validation_score(student, data)}
    notes = {"cut": kept["reached"], "validation": validation, "training": asdict(history)}
    write_json(job.out / "history.json", notes)


def cut_student(
    student: Model, data: Decoded, recipe: Prune, job: Job
) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Cut in place; what was reached, and the shapes that are no longer what they were."""
    original, multiple = shapes_of(student.network), job.settings["multiple"]
    reached = cut(student, data, recipe, multiple, job)
    shapes = changed(student.network, original)
    if not shapes:
        raise Refusal(
            f"prune: nothing could be removed in multiples of {multiple} channels; drop [prune], try"
            " another criterion, or set channel_multiple lower in the target's profile"
        )
    return reached, shapes


def cut(student: Model, data: Decoded, recipe: Prune, multiple: int, job: Job) -> dict[str, Any]:
    """Cut in place until the goal is met, or nothing is left to cut; what was reached."""
    gradients = gradients_of(data, student) if recipe.criterion in NEED_GRADIENTS else None
    steps = cuts(student, data.facts.shape, recipe.criterion, multiple, gradients)
    goal = "macs" if recipe.macs is not None else "latency"
    share = getattr(recipe, goal)
    return {"goal": goal, "share": share, **GOALS[goal](student, steps, share, data, job)}


def to_macs(student: Model, steps: Iterator[float], share: float, data: Decoded, job: Job) -> dict[str, Any]:
    """To a share of the multiply-adds."""
    left = 1.0
    for left in steps:
        if left <= share:
            break
    return {"reached": left, "met": left <= share}


def to_latency(
    student: Model, steps: Iterator[float], share: float, data: Decoded, job: Job
) -> dict[str, Any]:
    """To a share of the uncut student's latency as int8 on the target, by a few measurements on the way."""
    probe = Probe(student, data, job)
    aim, probes, left = share, [], 1.0
    for left in steps:
        if left > aim:
            continue
        probes.append({"macs": left, "latency": probe.latency(student)})
        if probes[-1]["latency"] <= share or len(probes) == PROBES:
            break
        aim = left * share / probes[-1]["latency"]
    # Nothing is left to cut, short of the aim: what is kept is timed all the same.
    if left < 1 and (not probes or probes[-1]["macs"] != left):
        probes.append({"macs": left, "latency": probe.latency(student)})
    reached = probes[-1]["latency"] if probes else 1.0
    return {"reached": reached, "met": reached <= share, "probes": probes}


GOALS = {"macs": to_macs, "latency": to_latency}


def gradients_of(data: Decoded, student: Model) -> Callable[[nn.Module], None]:
    """Leaves the gradients of the labels' loss on some training images in a network."""
    task = TASKS[data.facts.task]
    indices = data.part(TRAIN)[:GRADIENT_IMAGES]

    def leave(network: nn.Module) -> None:
        network.zero_grad()
        for batch in plain_batches(data, indices, 64):
            loss = task.loss(network((batch.images - student.mean) / student.std), batch.labels, 0.0).mean()
            loss.backward()  # type: ignore[no-untyped-call]

    return leave
