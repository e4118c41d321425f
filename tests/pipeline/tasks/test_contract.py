"""The contract of a task, by one from outside: from a recipe to a judged int8 file, with the package as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the stages are torch's")

from pipeline.assembly import read_test_set
from pipeline.data import decoded
from pipeline.data.batches import Epoch, Pixels, training_batches
from pipeline.data.decoded import TRAIN
from pipeline.plan import Plan
from pipeline.recipe.recipe import Recipe
from pipeline.tasks import LABEL_SETS, TASKS
from support import tiny
from support.locate import LOCATE, LOCATE_JUDGED, SQUARES
from support.staged import Bench
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets import limits
from targets import tasks as judged
from targets.bundle.bundle import Bundle, read_bundle, write_bundle
from targets.bundle.prove import prove, report_of
from targets.errors import PASSED, Refusal
from targets.gate.gate import Given, gate
from targets.limits import BUDGETS, Budgets
from targets.measuring.candidate import Candidate
from targets.report import render
from targets.spec.contract import read_contract
from targets.spec.profile import read_profile

SIDE = 16
SET = """
import numpy as np
from pipeline.data import Images

def make():
    random = np.random.default_rng(0)
    corners = random.integers(2, 11, (160, 2))
    images = random.integers(0, 60, (160, 16, 16, 3), dtype=np.uint8)
    for image, (row, column) in zip(images, corners):
        image[row : row + 4, column : column + 4] = 250
    return Images(images, ((corners + 2) / 16).astype(np.float32), ("row", "column"))
"""
NETWORK = """
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2),
    )
"""
SHORT = {"batch": 16, "optimizer": "adamw", "lr": 0.01, "precision": "float32"}
RECIPE: dict[str, Any] = {
    "version": 1,
    "data": {"task": "locate", "factory": "set:make", "size": SIDE, "test": 0.4, "flip": True},
    "teacher": {"network": "net:build", "epochs": 12, **SHORT},
    "student": {"network": "net:build"},
    "distill": {"epochs": 14, "loss": [{"name": "fitnet", "weight": 0.01}], **SHORT},
    "quantize": {"epochs": 1, "loss": [{"name": "fitnet", "weight": 0.01}], **SHORT, "lr": 1e-4},
    "budgets": {"nearness": 50, "drop_vs_float": 20},
}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "locate", LOCATE)
    monkeypatch.setitem(LABEL_SETS, "locate", SQUARES)
    monkeypatch.setitem(judged.TASKS, "locate", LOCATE_JUDGED)
    for row in LOCATE_JUDGED.budgets:
        monkeypatch.setitem(limits.OWNERS, row.name, "locate")
        monkeypatch.setitem(BUDGETS, row.name, row)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("user")
    (folder / "set.py").write_text(SET)
    (folder / "net.py").write_text(NETWORK)
    return Bench(folder, tmp_path_factory.mktemp("store"))


@dataclass(frozen=True)
class OneStage:
    """A store that has what one stage has left."""

    folder: Path

    def file(self, key: str, name: str) -> Path:
        return self.folder / name


def bundle(bench: Bench, plan: Plan) -> Bundle:
    """As ``assemble`` makes it of a store."""
    test_set, networks = read_test_set(plan.answers, OneStage(bench.made(plan.answers)))  # type: ignore[arg-type]
    candidates = [
        Candidate(name, bench.made(one.files["onnx"]) / "model.onnx", precision, "student", None, one.method)  # type: ignore[arg-type]
        for one in plan.variants
        for name, precision in [("float", "float32") if not one.method else (f"int8-{one.method}", "int8")]
    ]
    contract = read_contract(onnx.load(candidates[0].model))
    assert contract is not None and contract.task == "locate"
    budgets = Budgets(RECIPE["budgets"])
    images = bench.made(plan.answers) / "images.npy"
    facts = "locate", read_profile("cpu"), budgets, contract, candidates, images, test_set, networks
    return Bundle(*facts, notes={})


def test_a_task_goes_the_whole_line_to_an_int8_file_that_is_judged(bench: Bench, tmp_path: Path) -> None:
    one = bundle(bench, bench.plan(RECIPE))
    write_bundle(one, tmp_path / "bundle")
    one = read_bundle(tmp_path / "bundle")
    proof = prove(one, "local", tmp_path / "cpu")
    table = report_of([one], [proof])
    (target,) = table["targets"]
    assert target["status"] == PASSED, target["lines"]
    assert {line["budget"]: line["outcome"] for line in target["lines"]} == dict.fromkeys(
        RECIPE["budgets"], "PASS"
    )
    found = target["candidates"]["int8-qat"]["nearness"]
    assert 0.5 < found["low"] < found["value"] < found["high"]
    assert (table["task"], table["metric"]) == ("locate", "nearness")
    page, card = render.html(table), render.model_card(table, target)
    assert "Nearness on the test images" in page and "Recall" not in page and "Accuracy" not in page
    assert "| Nearness |" in card and " classes" not in card


def test_the_gate_reads_its_examples(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(RECIPE)
    data, photos = decoded.read(bench.made(plan.data)), tmp_path / "photos"
    photos.mkdir()
    for number, (pixels, (row, column)) in enumerate(zip(data.images, data.labels, strict=True)):
        Image.fromarray(pixels).save(photos / f"{number} {row} {column}.png")
    model = bench.made(plan.variants[0].files["onnx"]) / "model.onnx"
    given = Given(model, photos, read_profile("cpu"))
    table = gate(given, Budgets({"nearness": 50}), tmp_path / "out")
    assert table["status"] == PASSED
    assert table["test_images"] == len(data.labels)
    with pytest.raises(Refusal, match="no folder"):
        gate(
            Given(model, tmp_path / "none", read_profile("cpu")), Budgets({"nearness": 50}), tmp_path / "out"
        )


def test_labels_move_with_what_is_shown(bench: Bench) -> None:
    data, settings = decoded.read(bench.made(bench.plan(RECIPE).data)), tiny.training()
    which = data.part(TRAIN)
    shown = training_batches(Pixels(data, move=LOCATE.moved), which, 32, settings, Epoch(0, 0, 0))
    moved = False
    for batch in shown:
        bright = (batch.images.mean(1) > 0.9).float()
        rows, columns = torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5
        weight = bright.sum((1, 2))
        middle = (
            torch.stack([(bright.sum(2) * rows).sum(1), (bright.sum(1) * columns).sum(1)], 1)
            / weight[:, None]
        )
        whole = weight == 16  # squares that the shift has not cut
        assert whole.any() and torch.allclose(middle[whole] / SIDE, batch.labels[whole], atol=1e-5)
        moved |= not torch.equal(batch.labels, torch.from_numpy(data.labels[batch.indices]))
    assert moved


REFUSED = {
    "kd": ({"distill": {"loss": [{"name": "kd"}], **SHORT}}, "kd compares the logits of classes"),
    "default": ({"distill": {"epochs": 1}}, "kd compares the logits of classes"),
    "labels": ({"distill": {"loss": [{"name": "category"}], **SHORT}}, "class"),
    "scheme": ({"distill": {"scheme": "mutual", **SHORT}}, "mutual compares the logits of classes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_looks_at_classes_is_refused_at_the_door(case: str, bench: Bench) -> None:
    changes, told = REFUSED[case]
    with pytest.raises(Refusal, match=told):
        bench.made(bench.plan({**RECIPE, **changes}).check)


def test_settings_that_mean_nothing_to_it_are_refused(bench: Bench) -> None:
    section = {"network": "net:build", "epochs": 1, "label_smoothing": 0.1, **SHORT}
    with pytest.raises(Refusal, match=r"label_smoothing: locate has no classes"):
        bench.made(bench.plan({**RECIPE, "teacher": section}).check)


def test_a_budget_of_another_task_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"budgets\.accuracy: it is of classification; these images are for locate"
    ):
        Recipe.model_validate({**RECIPE, "budgets": {"accuracy": 90}})
    with pytest.raises(ValueError, match="did you mean 'locate'"):
        Recipe.model_validate({**RECIPE, "data": {**RECIPE["data"], "task": "locat"}})


def test_both_sides_know_the_same_tasks() -> None:
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in judged.TASKS}
    assert LABEL_SETS.keys() == TASKS.keys()


def test_another_task_is_another_key(bench: Bench) -> None:
    other = {**RECIPE, "data": {**RECIPE["data"], "task": "classification"}, "budgets": {}}
    assert bench.key(bench.plan(RECIPE).data) != bench.key(bench.plan(other).data)
    with pytest.raises(Refusal, match="labels are float32 of 2 dimensions"):
        bench.made(bench.plan(other).data)
