"""distill: train the student on the labels and on what the teacher shows."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import torch

from pipeline.artifacts import checkpoint
from pipeline.data import decoded
from pipeline.engine.job import Job
from pipeline.engine.store import write_json
from pipeline.recipe.schema import Distill, Network
from pipeline.schemes import build
from pipeline.schemes.base import Setup
from pipeline.training import loop
from targets.progress import say


def run(job: Job) -> None:
    recipe = Distill.model_validate(job.settings["distill"])
    network = Network.model_validate(job.settings["student"])
    data = decoded.read(job.parents["data"])
    teachers = checkpoint.load_teachers(job.parents)
    torch.manual_seed(recipe.seed)
    begun = checkpoint.begin(network, data.facts, job.inputs, "student")
    fresh = partial(checkpoint.fresh, network, data.facts, job.inputs)
    setup = Setup(begun.model, begun.model, teachers, data, recipe, "distill", job.scratch, fresh)
    history = loop.fit(build(setup), data, recipe.training, job.scratch, "distill", job.resources.tensorboard)
    left = checkpoint.leave_training(begun.checkpoint, begun.model)
    if left.note:
        say(f"student: {left.note}")
    checkpoint.save(job.out, left.checkpoint, left.model)
    notes = {"training": asdict(history), "given": begun.given, "folded": left.note}
    write_json(job.out / "history.json", notes)
