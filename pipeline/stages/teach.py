"""teach: train the teacher, or take a given one as it is."""

from __future__ import annotations

from dataclasses import asdict

import torch

from pipeline.artifacts import checkpoint
from pipeline.data import decoded
from pipeline.engine.job import Job
from pipeline.engine.store import write_json
from pipeline.recipe.schema import Teacher
from pipeline.schemes.labels import Labels
from pipeline.schemes.supervised import Supervised
from pipeline.tasks import TASKS
from pipeline.training import loop


def run(job: Job) -> None:
    recipe = Teacher.model_validate(job.settings)
    training = recipe.training
    data = decoded.read(job.parents["data"])
    torch.manual_seed(training.seed)
    begun = checkpoint.begin(recipe, data.facts, job.inputs, "teacher")
    scheme = Supervised(begun.model, Labels(TASKS[data.facts.task], training.label_smoothing))
    history = loop.fit(scheme, data, training, job.scratch, "teach", job.resources.tensorboard)
    checkpoint.save(job.out, begun.checkpoint, begun.model)
    write_json(job.out / "history.json", {"training": asdict(history), "given": begun.given})
