"""A device with a profile's settings and test images on it, and what can be done with a candidate there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from targets.arrays import read_answers
from targets.convert.mobile import on_arm, packed
from targets.convert.saturation import saturation
from targets.convert.target_file import derived
from targets.devices.base import Device, Local, backend_job
from targets.errors import Refusal, Unmeasurable
from targets.measuring.candidate import Candidate
from targets.runner.backends import backend
from targets.spec.contract import Contract
from targets.spec.output import check_batch
from targets.spec.profile import Profile
from targets.tasks import TASKS

EMULATED = "the processor is emulated, and an emulated time is no latency"
AGAIN = 64  # images that are asked a second time; the answers of a random network differ on the first
STAND_IN = "this machine answered in the device's place, and its times say nothing of the device's"


class Bench:
    """A device with a profile's settings and images on it; what can be done with a candidate there."""

    def __init__(
        self, device: Device, profile: Profile, contract: Contract, images: Path, work: Path
    ) -> None:
        self.device, self.profile, self.images, self.work = device, profile, images, work
        self.contract = contract
        self.again = work / "again.npy"
        self.shapes, self.runtime = contract.shape(profile.batch), backend(profile.backend)
        self.base: dict[str, Any] = {
            **backend_job(device, profile.backend),
            "format": profile.format,
            "tool": str(profile.tool) if profile.tool else None,
            "images": "images.npy",
            "feed": contract.feed(),
            "patience": profile.patience,
        }
        device.put(images, "images.npy")
        self.environment = self.do("look")["after"]
        stands_in = profile.remote and type(device) is Local
        # Why nothing may be timed here, if so.
        self.untimed = EMULATED if self.environment.get("emulated") else STAND_IN if stands_in else ""

    def do(self, what: str, **more: Any) -> dict[str, Any]:
        return self.device.run({**self.base, "do": what, **more})

    def options(self, one: Candidate) -> dict[str, Any]:
        keys = ("threads", "batch", *self.runtime.options)
        return {"precision": one.precision, **{key: getattr(self.profile, key) for key in keys}}

    def artifact(self, one: Candidate) -> Path:
        """The candidate's file in the form that this target runs."""
        return self.work / f"{one.name}.{self.profile.format}"

    def reference(self, one: Candidate) -> Path:
        """The ONNX file that it was made of: for most targets the artifact itself."""
        return self.work / f"{one.name}.onnx"

    def build(self, one: Candidate) -> dict[str, Any]:
        """Derive the file, send it, build its engine there; facts about what will run."""
        features = self.environment["cpu"]["features"]
        model = onnx.load(one.model)
        check_batch(model, self.contract.input, self.profile.batch, one.name)
        file = derived(model, one.precision, self.profile, features)
        onnx.save(file.model, self.reference(one))
        known: dict[str, Any] = {}
        if one.precision == "int8":
            known = {"saturation": saturation(file.model, file.form), "left_float": file.left_float}
        known |= packed(one.name, one.lite, self.reference(one), self.artifact(one))
        if self.runtime.fuses_for_arm and (self.profile.format == "ort" or "asimd" in features):
            known |= on_arm(self.reference(one))
        self.device.put(self.artifact(one), self.artifact(one).name)
        job = {"model": self.artifact(one).name, "engine": f"{one.name}.engine", "options": self.options(one)}
        facts: dict[str, Any] = self.do("build", **job)["facts"]
        return {**known, **facts, "rewrite": file.form, "precision": one.precision}

    def ask(self, one: Candidate, images: str = "images.npy") -> tuple[NDArray[np.float32], int | None]:
        """Its logits for every image, and the peak of memory (bytes) of the process that gave them."""
        answers = f"{one.name}.npy"
        job = {"engine": f"{one.name}.engine", "answers": answers, "options": self.options(one)}
        memory = self.do("answer", **job, images=images)["memory_bytes"]
        self.device.get(answers, self.work / answers)
        return self.answers(self.work / answers, one, images), memory

    def answers(self, file: Path, one: Candidate, images: str = "images.npy") -> NDArray[np.float32]:
        """What a process has answered to images.

        Raises Unmeasurable for what are no answers to these images, Refusal for what the task does not judge.
        """
        asked = self.again if images == self.again.name else self.images
        try:
            found = read_answers(file, len(np.load(asked, mmap_mode="r")))
        except ValueError as error:
            raise Unmeasurable(f"{self.profile.name}: {error}") from None
        try:
            TASKS[self.contract.task].check_answers(found, self.contract.classes)
        except ValueError as error:
            raise Refusal(f"{one.name}: {error}") from None
        return found

    def ask_again(self, one: Candidate) -> NDArray[np.float32]:
        """Its logits for the first few images, from another process: equal to the first process's, or by chance."""
        if not self.again.exists():
            np.save(self.again, np.load(self.images, mmap_mode="r")[:AGAIN])
            self.device.put(self.again, self.again.name)
        return self.ask(one, self.again.name)[0]

    def time(self, candidates: Sequence[Candidate], seconds: float, seed: int) -> dict[str, Any]:
        """Blocks of calls of each, in turns, in one fresh process: ``{"blocks": {name: …}, …}``."""
        self.check_clock()
        return self.do("time", engines=self.engines(candidates), seconds=seconds, seed=seed)

    def sustain(self, candidates: Sequence[Candidate], seconds: float) -> list[dict[str, Any]]:
        """Work without a pause, for what heat does: each window's medians and the machine's state."""
        self.check_clock()
        windows: list[dict[str, Any]] = self.do(
            "sustain", engines=self.engines(candidates), seconds=seconds, seed=0
        )["windows"]
        return windows

    def check_clock(self) -> None:
        if self.untimed:
            raise Unmeasurable(f"{self.profile.name}: {self.untimed}")

    def engines(self, candidates: Sequence[Candidate]) -> dict[str, Any]:
        return {
            one.name: {"engine": f"{one.name}.engine", "options": self.options(one)} for one in candidates
        }

    def vendor(self, one: Candidate) -> dict[str, Any]:
        """The figures of the vendor's own tool for the same engine, where there is one; to look at, not to judge."""
        if self.runtime.vendor is None:
            return {}
        return {"vendor": self.do("vendor", engine=f"{one.name}.engine", shapes=self.shapes)["vendor"]}
