"""calibrate: the student's int8 grid from a few training images, without training (post-training quantization)."""

from __future__ import annotations

from pipeline.artifacts import checkpoint
from pipeline.data import decoded
from pipeline.engine.job import Job
from pipeline.engine.store import write_json
from pipeline.quantization.ptq import calibrated


def run(job: Job) -> None:
    data = decoded.read(job.parents["data"])
    student = checkpoint.load_model(job.parents["student"])
    grid = calibrated(student, data, job.settings["calibration"])
    checkpoint.save(job.out, checkpoint.read(job.parents["student"]).edited(edit="quantize"), grid)
    write_json(job.out / "history.json", {"calibration_images": job.settings["calibration"]})
