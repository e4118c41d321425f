"""calibrate: the student's int8 grid from a few training images, without training (post-training quantization)."""

from __future__ import annotations

import json

from pipeline.artifacts import checkpoint
from pipeline.data import decoded
from pipeline.engine.job import Job
from pipeline.models.tapped_model import Model
from pipeline.quantization.policy import left_float
from pipeline.quantization.ptq import calibrated


def run(job: Job) -> None:
    data = decoded.read(job.parents["data"])
    described, student = checkpoint.read(job.parents["student"]), checkpoint.load(job.parents["student"])
    assert isinstance(student, Model), "the student is a model in float"
    grid = calibrated(student, data, job.settings["calibration"])
    checkpoint.save(job.out, described.edited(edit="quantize"), grid)
    (job.out / "history.json").write_text(json.dumps({"left_float": left_float(grid)}))
