"""teach: train the teacher, or take a given one as it is."""

from __future__ import annotations

import json
from dataclasses import asdict

import torch

from pipeline.artifacts import checkpoint
from pipeline.data import decoded
from pipeline.engine.job import Job
from pipeline.recipe.schema import Teacher
from pipeline.schemes.supervised import Supervised
from pipeline.training import loop


def run(job: Job) -> None:
    recipe = Teacher.model_validate(job.settings)
    training = recipe.training
    data = decoded.read(job.parents["data"])
    torch.manual_seed(training.seed)
    described, model = checkpoint.begin(recipe, data.facts, job.inputs, "teacher")
    scheme = Supervised(model, training.label_smoothing)
    history = loop.fit(scheme, data, training, job.scratch, "teach")
    checkpoint.save(job.out, described, model)
    (job.out / "history.json").write_text(json.dumps(asdict(history)))
