"""The table of CIFAR-100: the recipes of its pairs, taken from files and shortened, and what it says of rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("torch", reason="training is torch's")

import benchmarks.training.__main__ as speed
from benchmarks import cifar100, methods
from benchmarks.cifar100 import PUBLISHED, cells, from_files, shortened, spread
from benchmarks.packs import load
from pipeline.recipe.read import read_recipe
from targets.errors import Refusal


def pack(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    pixels = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
    first = pack(tmp_path / "a.npz", x_train=pixels[:2], y_train=np.array([0, 1]))
    rest = {
        "x_train": pixels[2:4],
        "y_train": np.array([2, 1]),
        "x_test": pixels[4:],
        "y_test": np.array([2]),
    }
    return [first, pack(tmp_path / "b.npz", **rest)]


def test_files_are_joined_in_order_and_the_test_split_says_so(files: list[Path]) -> None:
    found = load(files)
    assert found.labels.tolist() == [0, 1, 2, 1, 2] and found.classes == ("0", "1", "2")
    assert found.test is not None and found.test.tolist() == [False] * 4 + [True]
    assert np.array_equal(np.asarray(found.images).ravel(), np.arange(240, dtype=np.uint8))


def test_files_without_a_test_split_are_refused(files: list[Path]) -> None:
    with pytest.raises(Refusal, match="x_train, y_train, x_test, y_test are needed"):
        load(files[:1])


@pytest.mark.parametrize("main", [cifar100.main, methods.main, speed.main])
def test_a_file_that_is_not_there_is_a_wrong_option(main: Callable[..., None]) -> None:
    app = typer.Typer()
    app.command()(main)
    found = CliRunner().invoke(app, ["--data", "none.npz"])
    assert found.exit_code == 2 and "'none.npz' does not exist" in found.output


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_is_changed_where_it_is_asked_to_be_and_nowhere_else(name: str, files: list[Path]) -> None:
    recipe = read_recipe(name)[0]
    assert from_files(recipe, []) == recipe
    changed = shortened(from_files(recipe, files), {"teacher": None, "distill": 3, "quantize": None}, 2)
    assert changed.data.factory == "benchmarks.packs:load"
    assert changed.data.validation == recipe.data.validation
    assert changed.teacher.mean == changed.student.mean and changed.student.mean is not None
    assert (changed.teacher.epochs, changed.teacher.seed) == (recipe.teacher.epochs, 0)
    assert (changed.distill.epochs, changed.distill.seed) == (3, 2)
    assert (changed.quantize.epochs, changed.quantize.seed) == (recipe.quantize.epochs, 2)
    assert changed.distill.loss == recipe.distill.loss and changed.budgets == recipe.budgets


def test_the_table_says_what_the_rows_say() -> None:
    name = next(iter(PUBLISHED))
    epochs = {"teacher": 12, "distill": 20, "quantize": 1}
    rows = [
        {"pair": name, "seed": seed, "epochs": epochs, "teacher": 60.0, "float": 61.0 + seed, "int8": 60.5}
        for seed in range(3)
    ]
    (line,) = cells({"rows": rows, "published": PUBLISHED})
    assert line[1:6] == ["12 + 20 + 1", "3", "60.00", "62.00 ± 1.00", "60.50 ± 0.00"]
    assert "KD 70.66" in line[6]
    assert spread([61.234]) == "61.23"
