"""quantize: train the student on its calibrated int8 grid with the teacher watching (quantization-aware training).

Training starts from the calibrated grid and counts it as a candidate, so it never ends below it on validation.
"""

from __future__ import annotations

from dataclasses import asdict

import torch

from pipeline.artifacts import checkpoint
from pipeline.data import decoded
from pipeline.engine.job import Job
from pipeline.engine.store import write_json
from pipeline.recipe.schema import Quantize
from pipeline.schemes import build
from pipeline.schemes.base import Setup
from pipeline.training import loop


def run(job: Job) -> None:
    recipe = Quantize.model_validate(job.settings)
    data = decoded.read(job.parents["data"])
    torch.manual_seed(recipe.seed)
    student, grid = checkpoint.load_model(job.parents["student"]), checkpoint.load(job.parents["calibrated"])
    teachers = checkpoint.load_teachers(job.parents)
    setup = Setup(grid, student, teachers, data, recipe, "quantize", job.scratch)
    history = loop.fit(
        build(setup), data, recipe.training, job.scratch, "quantize", job.resources.tensorboard
    )
    checkpoint.save(job.out, checkpoint.read(job.parents["calibrated"]), grid)
    write_json(job.out / "history.json", {"training": asdict(history)})
