"""distill: train the student on the labels and on what the teacher shows."""

from __future__ import annotations

from dataclasses import asdict

import torch

from pipeline.artifacts import checkpoint
from pipeline.data import decoded
from pipeline.engine.job import Job
from pipeline.engine.store import write_json
from pipeline.recipe.schema import Distill, Network
from pipeline.schemes.offline import offline
from pipeline.training import loop
from targets.progress import say


def run(job: Job) -> None:
    recipe = Distill.model_validate(job.settings["distill"])
    network = Network.model_validate(job.settings["student"])
    data = decoded.read(job.parents["data"])
    teachers = checkpoint.load_teachers(job.parents)
    torch.manual_seed(recipe.seed)
    begun = checkpoint.begin(network, data.facts, job.inputs, "student")
    scheme = offline(begun.model, begun.model, teachers, data, recipe, "distill", job.scratch)
    history = loop.fit(scheme, data, recipe.training, job.scratch, "distill", job.resources.tensorboard)
    left = checkpoint.leave_training(begun.checkpoint, begun.model)
    if left.note:
        say(f"student: {left.note}")
    checkpoint.save(job.out, left.checkpoint, left.model)
    notes = {"training": asdict(history), "given": begun.given, "folded": left.note}
    write_json(job.out / "history.json", notes)
