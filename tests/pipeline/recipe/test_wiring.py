"""Each key of a recipe changes what a stage leaves: a table over the fields; one without a row fails."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the stages are torch's")

from safetensors.torch import save_file

from pipeline.models.cifar import CifarResNet
from pipeline.plan import Plan
from pipeline.recipe.data import Data
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.schema import Distill, Loss, Network, Prune, Quantize, SchemeLine, Teacher, Training
from pipeline.training import loop
from support.staged import Bench
from support.tiny import one_thread  # noqa: F401  (for every test here)

SHORT = {"epochs": 2, "batch": 8, "lr": 0.05, "warmup": 0.0, "precision": "float32"}
BASE: dict[str, Any] = {
    "version": 1,
    "data": {"folder": "photos", "size": 16, "test": 0.2},
    "teacher": {"network": "resnet8", **SHORT},
    "teachers": [{"network": "resnet8", **SHORT, "seed": 5}],
    "student": {"network": "resnet8"},
    "distill": SHORT,
    "prune": {**SHORT, "macs": 0.7},
    "quantize": {**SHORT, "method": "qat", "calibration": 8},
}
# A network with two answers, that reads a file of its own.
FACTORY = """
from pathlib import Path
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, width, wide):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, width, 3, 2, 1), nn.Conv2d(width, wide, 3, 2, 1)
        self.one, self.two = nn.Linear(wide, classes), nn.Linear(wide, classes)

    def forward(self, x):
        y = self.b(self.a(x).relu()).relu().mean((2, 3))
        return {"one": self.one(y), "two": self.two(y)}

def build(classes, width=4):
    return Net(classes, width, int((Path(__file__).parent / "wide.txt").read_text()))
"""
SET = """
from pathlib import Path
import numpy as np
from pipeline.data import Images

def make(shade=0):
    images = np.random.default_rng(0).integers(0, 200, (40, 16, 16, 3), dtype=np.uint8) + np.uint8(shade)
    more = int((Path(__file__).parent / "many.txt").read_text())
    return Images(list(images)[:more], np.arange(more) % 2, ("a", "b"))
"""
OWN = {"network": "own:build", "files": ["wide.txt"], "output": "one"}
MADE = {"factory": "set:make", "files": ["many.txt"], "size": 16, "test": 0.2}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("user")
    random = np.random.default_rng(0)
    for label, number in itertools.product(range(3), range(16)):
        (folder / "photos" / f"kind{label}").mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 120, (20, 24, 3), dtype=np.uint8)
        pixels[4:14, 4:20, label] = 240
        Image.fromarray(pixels).save(folder / "photos" / f"kind{label}" / f"{number}.png")
    shutil.copytree(folder / "photos" / "kind0", folder / "others" / "kind1")
    shutil.copytree(folder / "photos" / "kind1", folder / "others" / "kind2")
    torch.manual_seed(9)
    save_file(CifarResNet(8, (16, 16, 32, 64), 3).state_dict(), folder / "given.safetensors")
    for name, text in {"own.py": FACTORY, "set.py": SET, "wide.txt": "6", "many.txt": "40"}.items():
        (folder / name).write_text(text)
    return Bench(folder, tmp_path_factory.mktemp("store"))


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was trained last is what is kept, so a stage's tensors tell of all its steps."""
    looks = itertools.count()
    monkeypatch.setattr(loop, "validation_score", lambda network, data: next(looks) / 1e6)


def merged(table: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of the table with changed keys; of a table among them the keys, and None takes a key away."""
    made = deepcopy(table)
    for key, value in changes.items():
        inner = isinstance(value, dict) and isinstance(made.get(key), dict)
        made[key] = merged(made[key], value) if inner else value
        if value is None:
            del made[key]
    return made


def left(bench: Bench, recipe: dict[str, Any], of: Callable[[Plan], Any]) -> dict[str, bytes]:
    """The arrays and tensors that a stage of the recipe leaves, by file."""
    folder = bench.made(of(bench.plan(recipe)))
    kinds = (".npy", ".safetensors")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in kinds}


Stages = dict[str, Callable[[Plan], Any]]
STAGES: Stages = {
    "decode": lambda plan: plan.data,
    "teach": lambda plan: plan.teachers["teacher"],
    "distill": lambda plan: plan.networks["student"],
    "prune": lambda plan: plan.networks["pruned"],
    "calibrate": lambda plan: next(one for one in plan.variants if one.method == "ptq").checkpoint,
    "int8": lambda plan: [one for one in plan.variants if one.network == "student"][-1].checkpoint,
    "quantize": lambda plan: next(one for one in plan.variants if one.method == "qat").checkpoint,
}
# Of each field: another value, and what must be set for it to mean something.
TRAINING: dict[str, tuple[Any, dict[str, Any]]] = {
    "optimizer": ("adamw", {}),
    "lr": (0.02, {}),
    "momentum": (0.5, {}),
    "weight_decay": (0.05, {}),
    "decay_norms": (False, {"weight_decay": 0.1}),
    "layer_decay": (0.5, {}),
    "clip": (0.1, {}),
    "schedule": ("step", {}),
    "milestones": ((0.1,), {"schedule": "step"}),
    "warmup": (0.5, {}),
    "warmup_steps": (3, {}),
    "ema": (0.5, {}),
    "epochs": (1, {}),
    "batch": (12, {}),
    "label_smoothing": (0.2, {}),
    "cutout": (6, {}),
    "mixup": (0.5, {}),
    "cutmix": (0.5, {}),
    "crop_scale": ((0.3, 0.6), {}),
    "jitter": (0.5, {}),
    "trivialaugment": (True, {}),
    "erasing": (0.9, {}),
    "precision": ("bfloat16", {}),
    "replay": (1, {}),
    "seed": (1, {}),
}
LINE = lambda **more: [{"name": "kd", **more}]
# (class, field): the stage that shows it, what is set first, and what is changed.
ROWS: dict[tuple[type, str], tuple[str, dict[str, Any], dict[str, Any]]] = {
    (Distill, "scheme"): ("distill", {}, {"distill": {"scheme": "mutual"}}),
    (Distill, "label_weight"): ("distill", {}, {"distill": {"label_weight": 0.2}}),
    (Distill, "loss"): ("distill", {}, {"distill": {"loss": [{"name": "at"}]}}),
    (Distill, "teachers"): ("distill", {}, {"distill": {"teachers": "random"}}),
    (Distill, "shares"): ("distill", {}, {"distill": {"shares": [1, 9]}}),
    (SchemeLine, "name"): ("distill", {}, {"distill": {"scheme": {"name": "mutual"}}}),
    (Loss, "name"): ("distill", {"distill": {"loss": LINE()}}, {"distill": {"loss": [{"name": "dkd"}]}}),
    (Loss, "weight"): ("distill", {"distill": {"loss": LINE()}}, {"distill": {"loss": LINE(weight=0.1)}}),
    (Loss, "ramp"): ("distill", {"distill": {"loss": LINE()}}, {"distill": {"loss": LINE(ramp=0.5)}}),
    (Loss, "stop"): ("distill", {"distill": {"loss": LINE()}}, {"distill": {"loss": LINE(stop=0.5)}}),
    (Network, "network"): ("distill", {}, {"student": {"network": "resnet14"}}),
    (Network, "arguments"): ("distill", {"student": OWN}, {"student": {"arguments": {"width": 8}}}),
    (Network, "weights"): ("distill", {}, {"student": {"weights": "given.safetensors"}}),
    (Network, "mean"): ("distill", {}, {"student": {"mean": [0.9, 0.1, 0.5]}}),
    (Network, "std"): ("distill", {}, {"student": {"std": [0.9, 0.1, 0.5]}}),
    (Network, "taps"): (
        "distill",
        {"distill": {"loss": [{"name": "at"}]}, "student": {"taps": ["layer1", "layer2", "layer3"]}},
        {"student": {"taps": ["conv1", "layer2", "layer3"]}},
    ),
    (Network, "output"): ("distill", {"student": OWN}, {"student": {"output": "two"}}),
    (Data, "name"): ("decode", {}, {"data": {"folder": None, "name": "digits", "size": None}}),
    (Data, "folder"): ("decode", {}, {"data": {"folder": "others"}}),
    (Data, "factory"): (
        "decode",
        {},
        {"data": {"folder": None, "factory": "set:make", "files": ["many.txt"]}},
    ),
    (Data, "arguments"): (
        "decode",
        {"data": {"folder": None, **MADE}},
        {"data": {"arguments": {"shade": 9}}},
    ),
    (Data, "size"): ("decode", {}, {"data": {"size": [12, 20]}}),
    (Data, "channels"): ("decode", {}, {"data": {"channels": "grey"}}),
    (Data, "resize"): ("decode", {}, {"data": {"resize": 20}}),
    (Data, "interpolation"): ("decode", {}, {"data": {"interpolation": "bicubic"}}),
    (Data, "test"): ("decode", {}, {"data": {"test": 0.4}}),
    (Data, "validation"): ("decode", {}, {"data": {"validation": 0.4}}),
    (Data, "flip"): ("distill", {}, {"data": {"flip": False}}),
    (Data, "seed"): ("decode", {}, {"data": {"seed": 1}}),
    (Prune, "criterion"): ("prune", {}, {"prune": {"criterion": "bn_scale"}}),
    (Prune, "macs"): ("prune", {}, {"prune": {"macs": 0.4}}),
    (Quantize, "method"): ("int8", {}, {"quantize": {"method": "ptq"}}),
    (Quantize, "calibration"): ("calibrate", {}, {"quantize": {"calibration": 3}}),
}
# Held elsewhere: by what a stage refuses without them, or by a device.
ELSEWHERE = {
    (Network, "files"): "tests/pipeline/test_user_code.py",
    (Data, "files"): "tests/pipeline/test_user_code.py",
    (Data, "task"): "tests/pipeline/tasks/test_contract.py",
    (Prune, "latency"): "tests/pipeline/stages/test_prune.py",
}


def test_every_field_has_a_row() -> None:
    sections = (Data, Distill, Loss, Network, Prune, Quantize, SchemeLine, Training)
    fields = {
        (section, name)
        for section in sections
        for name in section.model_fields
        if not any(name in base.model_fields for base in section.__mro__[1:] if hasattr(base, "model_fields"))
    }
    told = {*ROWS, *ELSEWHERE, *((Training, name) for name in TRAINING)}
    inherited = {(Training, name) for name in Training.model_fields}
    assert fields | inherited == told
    assert set(Recipe.model_fields) - set(BASE) == {"budgets"}, (
        "what a verdict reads: tests/targets/test_limits.py"
    )
    assert set(Teacher.model_fields) == {*Network.model_fields, *Training.model_fields}


@pytest.mark.parametrize("stage", ["decode", "teach", "distill", "prune", "calibrate", "quantize"])
def test_again_a_stage_leaves_the_same(stage: str, bench: Bench, tmp_path: Path) -> None:
    """Else a difference would tell nothing."""
    again = Bench(bench.folder, tmp_path)
    assert left(bench, BASE, STAGES[stage]) == left(again, BASE, STAGES[stage]) != {}


@pytest.mark.parametrize("stage", ["teach", "distill"])
@pytest.mark.parametrize("field", TRAINING)
def test_each_key_of_a_training_changes_what_it_leaves(field: str, stage: str, bench: Bench) -> None:
    value, given = TRAINING[field]
    section = {"teach": "teacher", "distill": "distill"}[stage]
    first = merged(BASE, {section: given})
    before = left(bench, first, STAGES[stage])
    assert left(bench, merged(first, {section: {field: value}}), STAGES[stage]) != before


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0].__name__}.{row[1]}")
def test_each_key_changes_what_its_stage_leaves(row: tuple[type, str], bench: Bench) -> None:
    stage, given, change = ROWS[row]
    first = merged(BASE, given)
    assert left(bench, merged(first, change), STAGES[stage]) != left(bench, first, STAGES[stage])
