"""Each key of a profile changes something measurable: a table over the fields; one without a row fails."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.plan import plan
from pipeline.recipe.recipe import Recipe
from support.verdicts import blocks
from targets.budgets.evidence import Measured, TestSet
from targets.bundle import prove as proving
from targets.bundle.bundle import Bundle
from targets.devices.base import Local
from targets.diagnose.explain import STEP, prepared
from targets.gate import gate as gating
from targets.limits import Budgets
from targets.measuring import measure as measuring
from targets.measuring.candidate import Candidate, Measurement
from targets.quantize.exchange import exchange
from targets.report.table import target_table
from targets.runner.backends import backend
from targets.spec.contract import Contract
from targets.spec.profile import Profile
from targets.verdict import unmeasured

BASE: dict[str, Any] = {"name": "own", "about": "a board", "backend": "onnxruntime", "rewrite": "u8"}
TENSORRT = {"backend": "tensorrt", "rewrite": "none"}
CLASSES = tuple(f"kind{label}" for label in range(5))
CONTRACT = Contract("nchw-float32", (8, 8), CLASSES)
ENVIRONMENT = {"cpu": {"model": "none", "features": ["avx2"]}}
RECIPE = {
    "version": 1,
    "data": "digits",
    "teacher": "resnet8",
    "student": "resnet8",
    "prune": {"macs": 0.5},
}


class Recorder:
    """A device that computes nothing, and keeps what it is given: the jobs, and the digests of the files."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.given: list[Any] = []

    def put(self, file: Path, name: str) -> None:
        self.given.append((name, hashlib.sha256(file.read_bytes()).hexdigest()))

    def get(self, name: str, file: Path) -> None:
        np.save(file, np.eye(self.images, len(CLASSES), dtype=np.float32))

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        self.given.append(job)
        times = {name: [[1e-3] * 3] * 3 for name in job.get("engines", ())}
        medians = dict.fromkeys(times, 1e-3)
        return {
            "after": ENVIRONMENT,
            "facts": {},
            "memory_bytes": None,
            "blocks": times,
            "timer": {},
            "time": "",
            "windows": [{"at": 0.0, "median": medians, "state": {}}],
            "vendor": {},
        }


class Place:
    """What is measured, and what a profile makes of it: each method shows one side of a profile."""

    def __init__(self, model: Path, photos: Path, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.model, self.photos, self.folder, self.patch = model, photos, folder, patch
        self.images = folder / "images.npy"
        np.save(self.images, np.zeros((len(CLASSES), 8, 8, 3), np.uint8))
        float_file, names = prepared(onnx.load(model), "small")
        onnx.save(exchange(float_file, dict.fromkeys(names, STEP)), folder / "int8.onnx")
        self.test_set = TestSet(np.arange(len(CLASSES)), CLASSES, {})

    def jobs(self, profile: Profile) -> list[Any]:
        """What the device is given from the first look to the last round."""
        device = Recorder(len(CLASSES))

        @contextmanager
        def opened(name: str) -> Iterator[Recorder]:
            yield device

        self.patch.setattr(measuring, "open_device", opened)
        self.patch.setattr(
            measuring, "answers_here", lambda bench, one: np.eye(len(CLASSES), dtype=np.float32)
        )
        both = Candidate("float", self.model, "float32"), Candidate("int8", self.folder / "int8.onnx", "int8")
        measuring.measure(both, CONTRACT, profile, "fake", self.images, self.folder / "out")
        return json.loads(json.dumps(device.given))  # type: ignore[no-any-return]

    def table(self, profile: Profile) -> dict[str, Any]:
        """Its part of a report."""
        return target_table(profile, "local", unmeasured(Budgets(), "no time"), self.test_set, None)

    def stages(self, profile: Profile) -> list[Any]:
        """The settings of all stages of a recipe."""
        made = plan(Recipe.model_validate(RECIPE), self.folder, profile, self.folder / "known.json")
        return [(one.name, one.settings) for one in made.stages]

    def proof(self, profile: Profile) -> str:
        """What is said of a bundle that is proved without a device."""
        found = Measurement(profile.name, "local", {"float": self.measured()}, {}, {}, untimed="a stand-in")
        self.patch.setattr(proving, "measure", lambda *_: found)
        candidates = [Candidate("float", self.model, "float32")]
        given = profile, Budgets(), CONTRACT, candidates, self.images, self.test_set, [], {}
        return str(proving.prove(Bundle("recipe", *given), "local", self.folder / "out").table["reason"])

    def lines(self, profile: Profile) -> list[Any]:
        """What the gate judges by, beside the command's own budget."""
        found = Measurement(profile.name, "local", {"candidate": self.measured(10)}, {}, {})
        self.patch.setattr(gating, "measured", lambda *_: found)
        self.patch.setattr(gating, "write_report", lambda *_: None)
        given = gating.Given(self.model, self.photos, profile)
        (target,) = gating.gate(given, Budgets({"size_mb": 9}), self.folder / "out")["targets"]
        return [(line["budget"], line["limit"]) for line in target["lines"]]

    def measured(self, images: int = len(CLASSES)) -> Measured:
        logits = np.eye(images, len(CLASSES), dtype=np.float32)
        return Measured(self.model, 1, None, logits, blocks([1.0]), {})


@pytest.fixture
def place(
    network: Callable[[str], Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    return Place(network("nchw-float32"), photos, tmp_path, monkeypatch)


# Of each field: what shows it, what must be set for it to mean something, and another value.
ROWS: dict[str, tuple[Callable[[Place, Profile], Any], dict[str, Any], Any]] = {
    "name": (Place.table, {}, "other"),
    "about": (Place.table, {}, "another board"),
    "backend": (Place.jobs, {}, "openvino"),
    "format": (Place.jobs, {}, "ort"),
    "remote": (Place.proof, {}, True),
    "stand_in": (Place.proof, {"remote": True}, True),
    "tensorrt": (Place.jobs, TENSORRT, "11"),
    "engine_cache": (Place.jobs, TENSORRT, True),
    "rewrite": (Place.jobs, {}, "s8"),
    "layout": (Place.stages, {}, "nhwc-uint8"),
    "tool": (Place.jobs, {}, "benchmark_model"),
    "opset": (Place.stages, {}, 18),
    "channel_multiple": (Place.stages, {}, 8),
    "threads": (Place.jobs, {}, 3),
    "batch": (Place.jobs, {}, 2),
    "seconds": (Place.jobs, {}, 80.0),
    "sustained": (Place.jobs, {}, 10.0),
    "patience": (Place.jobs, {}, 30),
    "budgets": (Place.lines, {}, {"accuracy": 50}),
}


def test_every_field_has_a_row() -> None:
    assert set(ROWS) == set(Profile.model_fields)


@pytest.mark.parametrize("name", ROWS)
def test_each_key_changes_what_is_done_with_a_profile(name: str, place: Place) -> None:
    shows, given, value = ROWS[name]
    before, again, after = (
        shows(place, Profile.model_validate({**BASE, **given, **change}))
        for change in ({}, {}, {name: value})
    )
    assert before == again, "else a difference would tell nothing"
    assert after != before


def test_each_option_of_a_backend_is_one_that_its_verbs_are_given(place: Place) -> None:
    """What a backend says that it reads of a profile is in the options of each of its jobs."""
    jobs = place.jobs(Profile.model_validate({**BASE, **TENSORRT}))
    options = [job["options"] for job in jobs if isinstance(job, dict) and "options" in job]
    wanted = {"precision", "threads", "batch", *backend("tensorrt").options}
    assert options and all(set(one) == wanted for one in options)


def test_a_remote_target_s_stand_in_is_not_timed(place: Place) -> None:
    """Only a device itself is: another machine's times would be told as its own."""

    class Here(Local):
        pass

    def untimed(device: Local) -> str:
        device.run = lambda job: {"after": ENVIRONMENT}  # type: ignore[method-assign]
        device.put = lambda file, name: None  # type: ignore[method-assign]
        profile = Profile.model_validate({**BASE, "remote": True, "stand_in": True})
        return measuring.Bench(device, profile, CONTRACT, place.images, place.folder).untimed

    assert untimed(Local(place.folder / "one")) != ""
    assert untimed(Here(place.folder / "two")) == ""
