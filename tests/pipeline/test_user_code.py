"""A user's own function: found beside the recipe, counted with its neighbours, and shadowing nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.data.decoded import read
from pipeline.engine.stage import ensure
from pipeline.engine.store import Store
from pipeline.plan import plan
from pipeline.recipe.read import read_recipe
from pipeline.user_code import call_factory, code_files, load_factory, only_reading, packages_of
from targets.errors import Refusal
from targets.spec.profile import read_profile

FACTORY = """
import numpy as np
from pipeline.data import Images
from colors import shade

def shades(count):
    import pipeline.recipe.schema  # Retort's, not this file
    pixels = np.concatenate([np.full((count, 8, 8, 3), shade(label), np.uint8) for label in range(2)])
    return Images(pixels, np.repeat([0, 1], count), ("dark", "light"))

def nothing():
    return [1, 2, 3]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Path]:
    """The data of a recipe with a factory of its own, made as the line makes it: in a process of its own."""
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "pipeline.py").write_text(FACTORY)
    colors = "from tones import LEAST\n\ndef shade(label):\n    return LEAST + 100 * label\n"
    (tmp_path / "user" / "colors.py").write_text(colors)
    (tmp_path / "user" / "tones.py").write_text("LEAST = 40\n")

    def made(data: str) -> Path:
        path = tmp_path / "user" / "recipe.toml"
        path.write_text(f'version = 1\nteacher = "resnet20"\nstudent = "resnet8"\n[data]\n{data}\n')
        stages = plan(*read_recipe(str(path)), read_profile("cpu"), tmp_path / "known.json")
        return ensure(stages.data, Store(tmp_path / "store"), lambda line: None)

    return made


def test_a_factory_beside_the_recipe_may_be_called_pipeline(
    recipe: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "user")
    data = 'factory = "pipeline:shades"\narguments = { count = 5 }\nsize = 8'
    first = recipe(data)
    found = read(first)
    assert found.facts.classes == ("dark", "light")
    assert [int(image.mean()) for image in found.images] == [40] * 5 + [140] * 5
    (tmp_path / "user" / "tones.py").write_text("LEAST = 50\n")
    second = recipe(data)
    assert second != first, "what a neighbour imports counts"
    assert read(second).images[0].mean() == 50


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("pipeline:nothing", "gave list; return pipeline.data.Images"),
        ("pipeline:absent", "no function 'absent'"),
        ("no_such_module_anywhere:images", "cannot be imported"),
    ],
)
def test_a_factory_that_cannot_be_used_is_refused(
    recipe: Callable[[str], Path], factory: str, words: str
) -> None:
    with pytest.raises(Refusal, match=words):
        recipe(f'factory = "{factory}"')


SOURCES = {
    "mine.py": "import near, numpy\nfrom own.inner import cut\nimport own.deep.most\ndef late():\n    import later\n",
    "near.py": "import mine\nimport second\n",
    "second.py": "",
    "later.py": "",
    "aside.py": "",
    "own/__init__.py": "",
    "own/inner.py": "from own import shared\n",
    "own/shared.py": "",
    "own/deep/__init__.py": "",
    "own/deep/most.py": "",
    "notes.txt": "",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_all_files_that_a_factory_reaches_are_its_code(tmp_path: Path) -> None:
    """What is missing here could change and leave the old tensors in the store."""
    write(tmp_path, SOURCES)
    found = code_files("mine:images", tmp_path)
    assert set(found) == set(SOURCES) - {"aside.py", "notes.txt"}
    assert all(path == tmp_path / name for name, path in found.items())
    more = code_files("mine:images", tmp_path, ["*.txt"])
    assert set(more) - set(found) == {"notes.txt"}
    for pattern in ("*.yaml", "../*"):
        with pytest.raises(Refusal, match="names no file below"):
            code_files("mine:images", tmp_path, [pattern])


def test_a_packages_factory_has_no_code_here(tmp_path: Path) -> None:
    assert code_files("torchvision.models:resnet18", tmp_path) == {}


def test_the_packages_that_a_user_s_code_imports_count(tmp_path: Path) -> None:
    mine = ["import os, timm", "from einops.layers import x", "from near import y", "import pipeline.data"]
    write(tmp_path, {"mine.py": "\n".join(mine), "near.py": "import numpy\n"})
    assert packages_of(code_files("mine:net", tmp_path)) == {"timm", "einops", "numpy"}


def test_a_source_that_does_not_parse_is_told_by_who_loads_it(
    recipe: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "user" / "broken.py").write_text("def images(:\n")
    with pytest.raises(Refusal, match=r"broken\.py cannot be imported"):
        recipe('factory = "broken:images"')


COMMAND_LINE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("NAME")
ARGS = parser.parse_args()
build = lambda: 1
"""
NET = """
from .blocks import block
from models.deep import WIDTH
def build(n_classes): return block(), n_classes
"""
PACKAGE = {
    "models/__init__.py": "",
    "models/blocks.py": "from .deep import WIDTH\ndef block(): return ('block', WIDTH)\n",
    "models/deep/__init__.py": "WIDTH = 3\n",
    "models/net.py": NET,
    "script.py": COMMAND_LINE.replace("NAME", "--x"),
    "strict.py": COMMAND_LINE.replace("NAME", "x"),
    "late.py": COMMAND_LINE.replace("NAME", "--x")
    .replace("ARGS = ", "build = lambda: ")
    .replace("build = lambda: 1\n", ""),
    "late_strict.py": COMMAND_LINE.replace("NAME", "x")
    .replace("ARGS = ", "build = lambda: ")
    .replace("build = lambda: 1\n", ""),
    "stale.py": "from pipeline.datasets import Images\n",
}


def test_modules_of_a_package_import_each_other(tmp_path: Path) -> None:
    write(tmp_path, PACKAGE)
    made = load_factory("models.net:build", tmp_path, "student")
    assert call_factory(made, 7, {}) == (("block", 3), 7)
    assert set(code_files("models.net:build", tmp_path)) == {
        name for name in PACKAGE if name.startswith("models/")
    }


def test_a_script_finds_no_command_line_and_does_not_end_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, PACKAGE)
    assert load_factory("script:build", tmp_path, "student")() == 1
    with pytest.raises(
        Refusal, match=r"strict\.py ends the program when it is imported; put .* below if __name__"
    ):
        load_factory("strict:build", tmp_path, "student")
    monkeypatch.setattr(sys, "argv", ["retort", "--of-ours"])
    assert load_factory("late:build", tmp_path, "student")().x is None
    assert sys.argv == ["retort", "--of-ours"]
    with pytest.raises(
        Refusal, match=r"student: build of .*late_strict\.py ends the program; .* as arguments"
    ):
        load_factory("late_strict:build", tmp_path, "student")()
    with pytest.raises(Refusal, match=r"from pipeline\.data import Images"):
        load_factory("stale:build", tmp_path, "data.factory")


class Net:
    def __init__(self, num_classes: int = 10, width: int = 4) -> None:
        self.made = (num_classes, width)


FACTORIES: dict[str, tuple[Callable[..., object], object]] = {
    "classes": (lambda classes, width=2: (classes, width), (7, 3)),
    "num_classes": (lambda num_classes, width: (num_classes, width), (7, 3)),
    "n_classes": (lambda width, n_classes=1: (n_classes, width), (7, 3)),
    "none at all": (lambda width: width, 3),
    "handed on": (lambda *, weights=None, **more: sorted(more.items()), [("num_classes", 7), ("width", 3)]),
    "anything": (lambda **more: sorted(more.items()), [("classes", 7), ("width", 3)]),
    "a class": (lambda num_classes, width: Net(num_classes, width).made, (7, 3)),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_the_number_of_classes_goes_by_the_factory_s_name_for_it(name: str) -> None:
    factory, expected = FACTORIES[name]
    assert call_factory(factory, 7, {"width": 3}) == expected


def test_a_class_is_a_factory_and_the_recipe_has_the_last_word() -> None:
    assert call_factory(Net, 7, {}).made == (7, 4)
    assert call_factory(Net, 7, {"num_classes": 3}).made == (3, 4)


def test_a_file_that_code_reads_is_declared_or_refused(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": "", "size.txt": "4"})
    with only_reading({"size.txt": tmp_path / "size.txt"}, tmp_path, "student"):
        assert (tmp_path / "size.txt").read_text() == "4"
    said = r'student: its code reads size\.txt; say so: files = \["size\.txt"\]'
    for look in (lambda path: path.read_text(), lambda path: open(path).close()):
        with pytest.raises(Refusal, match=said), only_reading({}, tmp_path, "student"):
            look(tmp_path / "size.txt")
