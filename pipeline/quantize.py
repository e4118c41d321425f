"""quantize: train the student on its calibrated int8 grid with the teacher watching (quantization-aware training).

Training starts from the calibrated grid and counts it as a candidate, so it never ends below it on validation.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import torch
from torch import fx

from pipeline import checkpoint, images, train
from pipeline.job import Job
from pipeline.model import Model
from pipeline.recipe import Quantize
from pipeline.schemes import offline


def run(job: Job) -> None:
    recipe = Quantize.model_validate(job.settings)
    data = images.read(job.parents["data"])
    torch.manual_seed(recipe.seed)
    student, grid = checkpoint.load(job.parents["student"]), checkpoint.load(job.parents["calibrated"])
    assert isinstance(student, Model) and isinstance(grid, fx.GraphModule), "a float model and its grid"
    teachers = checkpoint.load_teachers(job.parents)
    scheme = offline(grid, student, teachers, data, recipe, "quantize", job.scratch)
    history = train.fit(scheme, data, recipe.training, job.scratch, "quantize")
    checkpoint.save(job.out, checkpoint.read(job.parents["calibrated"]), grid)
    (job.out / "history.json").write_text(json.dumps(asdict(history)))
