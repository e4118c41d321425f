"""quantize: the student's int8 grid, by calibration and, for ``qat``, by training on it with the teacher."""

from __future__ import annotations

import json
from dataclasses import asdict

import torch

from pipeline import checkpoint, images, train
from pipeline.job import Job
from pipeline.model import Model
from pipeline.quantizer import calibrate, left_float, prepare, settle
from pipeline.recipe import Quantize
from pipeline.schemes import offline


def run(job: Job) -> None:
    recipe = Quantize.model_validate(job.settings)
    data = images.read(job.parents["data"])
    torch.manual_seed(recipe.seed)
    described, student = checkpoint.read(job.parents["student"]), checkpoint.load(job.parents["student"])
    assert isinstance(student, Model)
    prepared = prepare(student, described.size, "train" if recipe.method == "qat" else "calibrate")
    calibrate(prepared, data, recipe.calibration)
    history = None
    if recipe.method == "qat":
        teachers = checkpoint.load_teachers(job.parents)
        scheme = offline(prepared, student, teachers, data, recipe, "quantize", job.scratch)
        history = asdict(train.fit(scheme, data, recipe.training, job.scratch, "quantize"))
        trained = prepared.state_dict()
        student.load_state_dict({name: trained[name] for name in student.state_dict()})
    grid = settle(student, described.size, prepared)
    checkpoint.save(job.out, described.edited(edit="quantize"), grid)
    notes = {"history": history, "left_float": left_float(grid)}
    (job.out / "history.json").write_text(json.dumps(notes))
