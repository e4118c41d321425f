"""distill: train the student on the labels and on what the teacher shows."""

from __future__ import annotations

import json
from dataclasses import asdict

import torch

from pipeline import checkpoint, images, train
from pipeline.job import Job
from pipeline.recipe import Distill, Network
from pipeline.schemes import offline


def run(job: Job) -> None:
    recipe = Distill.model_validate(job.settings["distill"])
    network = Network.model_validate(job.settings["student"])
    data = images.read(job.parents["data"])
    teachers = checkpoint.load_teachers(job.parents)
    torch.manual_seed(recipe.seed)
    described, student = checkpoint.begin(network, data.facts, job.inputs, "student")
    scheme = offline(student, student, teachers, data, recipe, "distill", job.scratch)
    history = train.fit(scheme, data, recipe.training, job.scratch, "distill")
    checkpoint.save(job.out, described, student)
    (job.out / "history.json").write_text(json.dumps(asdict(history)))
