"""evaluate: the one look at the test split. Every network's answers, for the report and the paired budgets.

Out: ``NAME.npy`` (N, ...) float32 answers of each parent that is a checkpoint, ``labels.npy`` and
``images.npy`` (N, H, W, C) uint8: what the targets will be asked, too.
"""

from __future__ import annotations

import json

import numpy as np
import torch

from pipeline.artifacts import checkpoint
from pipeline.compute.accelerator import accelerator
from pipeline.data import decoded
from pipeline.data.decoded import TEST
from pipeline.engine.job import Job
from pipeline.models.catalogue import macs
from pipeline.training import loop
from targets.progress import Bar


def run(job: Job) -> None:
    data = decoded.read(job.parents["data"])
    which = data.part(TEST)
    players = [name for name in job.parents if name != "data"]
    facts, device = {}, accelerator()
    batches = len(players) * -(-len(which) // loop.PREDICT_BATCH)
    with Bar("evaluate", batches) as bar:
        for name in players:
            model = checkpoint.load(job.parents[name]).to(device)
            np.save(job.out / f"{name}.npy", loop.predict(model, data, TEST, bar.step).numpy())
            grey = torch.full((1, *data.facts.shape), 0.5, device=device)
            facts[name] = {
                "network": checkpoint.read(job.parents[name]).network,
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "macs": macs(model, grey),
            }
    np.save(job.out / "labels.npy", data.labels[which])
    np.save(job.out / "images.npy", data.images[which])
    about = {"classes": data.facts.classes, "task": data.facts.task}
    (job.out / "networks.json").write_text(json.dumps({**about, **facts}))
