"""The latency of a student that was not trained to its end: calibrated, exported and timed as int8 on the target."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.artifacts.onnx_file import Deployed, contract_for, write
from pipeline.data.decoded import VALIDATION, Decoded
from pipeline.engine.job import Job
from pipeline.models.tapped_model import Model
from pipeline.quantization.grid import convert
from pipeline.quantization.ptq import calibrated
from targets.devices.connect import open_device
from targets.errors import Unmeasurable
from targets.measuring.bench import Bench
from targets.measuring.candidate import Candidate
from targets.spec.profile import Profile
from targets.stats.intervals import ratio

PROBES, PROBE_IMAGES, PROBE_PROCESSES, PROBE_SECONDS = 5, 64, 3, 1.0


class Probe:
    """Times a cut student as int8 on the target, beside the uncut one."""

    def __init__(self, student: Model, data: Decoded, job: Job) -> None:
        self.data, self.job = data, job
        self.profile = Profile.model_validate(job.settings["target"]["profile"])
        self.device = job.settings["target"]["device"]
        if self.profile.remote and self.device == "local":
            raise Unmeasurable(
                f"prune.latency: a latency on {self.profile.name} is asked for; give that device, or prune by macs"
            )
        self.contract = contract_for(self.profile.layout, data.facts)
        self.images = job.scratch / "probe.npy"
        np.save(self.images, data.images[data.part(VALIDATION)[:PROBE_IMAGES]])
        self.uncut = Candidate("uncut", self.export(student, "uncut"), "int8")

    def export(self, student: Model, name: str) -> Path:
        grid = calibrated(student, self.data, PROBE_IMAGES)
        path = self.job.scratch / f"{name}.onnx"
        write(Deployed(convert(grid), self.profile.layout), self.contract, self.profile.opset, path)
        return path

    def latency(self, student: Model) -> float:
        """Its latency in shares of the uncut student's."""
        both = [self.uncut, Candidate("cut", self.export(student, "cut"), "int8")]
        work = self.job.scratch / "probe"
        work.mkdir(exist_ok=True)
        with open_device(self.device) as device:
            bench = Bench(device, self.profile, self.contract, self.images, work)
            for one in both:
                bench.build(one)
            timed = [bench.time(both, PROBE_SECONDS, seed)["blocks"] for seed in range(PROBE_PROCESSES)]
        return ratio([blocks["cut"] for blocks in timed], [blocks["uncut"] for blocks in timed]).value
