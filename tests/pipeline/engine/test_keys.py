"""What a stage's key depends on, and what not: a table of changes over the real sources, recipes and images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.engine import code_digest
from pipeline.engine.stage import Input, Stage
from pipeline.plan import Plan, plan
from pipeline.recipe.read import read_recipe
from support.tree import copy_project
from targets.spec.profile import read_profile

RECIPE = """
version = 1
data = { folder = "photos", size = 32 }
teacher = { network = "resnet8", epochs = 1 }
student = { network = "mine.net:build" }
distill = { loss = [{ name = "kd" }, { name = "srkd" }] }
prune = { macs = 0.5 }
quantize = { loss = [{ name = "at" }] }
"""
NET = "from .blocks import block\ndef build(classes): return block(classes)\n"
ALL = {"decode", "check", "teach", "distill", "prune", "calibrate", "quantize", "export", "evaluate"}
AFTER_STUDENT = {"distill", "prune", "calibrate", "quantize", "export", "evaluate"}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the project in place of the project itself."""
    tree = copy_project(tmp_path / "tree")
    monkeypatch.setattr(code_digest, "ROOT", tree)
    code_digest.forget()
    yield tree
    code_digest.forget()


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A recipe with images and code of its own."""
    folder = tmp_path / "user"
    random = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8))
            image.save(folder / "photos" / label / f"{number}.bmp")
    (folder / "mine").mkdir()
    for name, text in {"__init__": "", "net": NET, "blocks": "def block(n): ...\n", "aside": ""}.items():
        (folder / "mine" / f"{name}.py").write_text(text)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def planned(folder: Path, target: str = "cpu") -> Plan:
    code_digest.forget()
    recipe = read_recipe(str(folder / "recipe.toml"))
    return plan(*recipe, read_profile(target), folder.parent / "known.json")


def keys(folder: Path) -> list[tuple[str, str]]:
    """The stages in their order, with their keys."""
    return [(stage.name, stage.key) for stage in planned(folder).stages]


def remade(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> set[str]:
    """The stages of which any has another key."""
    assert [name for name, _ in before] == [name for name, _ in after]
    return {name for (name, old), (_, new) in zip(before, after, strict=True) if old != new}


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{file.name} has changed: let this test follow"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


LOSS = """

def toy(step: Step) -> Tensor:
    return step.student.logits.mean()


TOY = {"toy": Entry(toy, 1.0, "response", "nobody")}
"""
QUANTIZED = {"check", "quantize", "export"}
CUT = {"prune", "calibrate", "quantize", "export", "evaluate"}
# A file of the project, what stands there, what is put in its place, and the stages that are made again.
CODE: dict[str, tuple[str, str, str, set[str]]] = {
    "a progress bar": ("targets/progress.py", "LOG_EVERY_S = 10.0", "LOG_EVERY_S = 5.0", set()),
    "what a bar says": ("pipeline/training/loop.py", "loss {loss:.3f}", "the loss {loss:.3f}", set()),
    "an error's text": ("pipeline/training/loop.py", "lower lr", "take a lower lr", set()),
    "how errors are made": ("targets/errors.py", "did you mean", "you mean", set()),
    "a docstring": ("pipeline/training/loop.py", "The state of a training", "All of a training", set()),
    "a comment": ("pipeline/training/loop.py", "# Chosen once", "# Only once", set()),
    "another family": ("pipeline/losses/contrast.py", "from __future__", "SOME = 1\nfrom __future__", set()),
    "a loss that is not named": ("pipeline/losses/lessons.py", "def conditional(", "def other(", set()),
    "another network": ("pipeline/models/cifar.py", "depth - 4", "depth - 5", set()),
    "a command": ("pipeline/cli/main.py", "no_args_is_help=True", "no_args_is_help=False", set()),
    "the report": ("targets/report/table.py", "KEPT_TIMES = 2000", "KEPT_TIMES = 1000", set()),
    "the store": ("pipeline/engine/store.py", "indent=1", "indent=2", set()),
    "the latency probe": ("pipeline/search/latency_probe.py", "PROBE_IMAGES", "PROBED", set()),
    "a loss that is named": ("pipeline/losses/response.py", "= 4.0", "= 5.0", {"check", *AFTER_STUDENT}),
    "the loss of one stage": (
        "pipeline/losses/maps.py",
        "def at(",
        "def at(*_): ...\ndef other(",
        {"check", "quantize", "export"},
    ),
    "a network": ("pipeline/models/cifar.py", "depth - 2", "depth - 3", ALL - {"decode"}),
    "the training loop": (
        "pipeline/training/loop.py",
        "BATCH = 256",
        "BATCH = 128",
        ALL - {"decode", "check"},
    ),
    "how images are decoded": ("targets/image_folder.py", "side) / 2)", "side) / 3)", ALL),
    "the grid": (
        "targets/convert/grid.py",
        "STEPS = 127",
        "STEPS = 9",
        {"check", *CUT} - {"prune", "evaluate"},
    ),
    "the exporter": (
        "pipeline/artifacts/onnx_file.py",
        'doc_string = ""',
        'doc_string = "x"',
        {"check", "export"},
    ),
    "a criterion": ("pipeline/pruning/criteria.py", "p=2", "p=1", {"check", *CUT}),
}


@pytest.mark.parametrize("change", CODE)
def test_a_change_of_code_makes_again_what_depends_on_it(change: str, tree: Path, user: Path) -> None:
    file, old, new, expected = CODE[change]
    before = keys(user)
    edit(tree / file, old, new)
    assert remade(before, keys(user)) == expected


def test_a_new_loss_makes_nothing_again(tree: Path, user: Path) -> None:
    before = keys(user)
    losses = tree / "pipeline" / "losses"
    (losses / "toy.py").write_text(
        "from torch import Tensor\nfrom pipeline.losses.step import Entry, Step\n" + LOSS
    )
    edit(losses / "__init__.py", "    **CONTRAST,", "    **CONTRAST,\n    **TOY,")
    edit(
        losses / "__init__.py",
        "from pipeline.losses.step",
        "from pipeline.losses.toy import TOY\nfrom pipeline.losses.step",
    )
    response = losses / "response.py"
    response.write_text(response.read_text() + LOSS.replace("TOY = {", "MORE = {"))
    assert remade(before, keys(user)) == set()


def test_the_clock_counts_where_a_latency_decides_the_cut(tree: Path, user: Path) -> None:
    edit(user / "recipe.toml", "macs = 0.5", "latency = 0.5")
    before = keys(user)
    for file, old, new in (
        ("targets/runner/clock.py", "def rounds(", "def rounds_("),
        (
            "pipeline/search/latency_probe.py",
            "PROBE_SECONDS = 5, 64, 3, 1.0",
            "PROBE_SECONDS = 5, 64, 3, 2.0",
        ),
    ):
        edit(tree / file, old, new)
        after = keys(user)
        assert remade(before, after) == {"prune", "calibrate", "quantize", "export", "evaluate"}, file
        before = after


# A package's new version, and the stages that are made again.
PACKAGES: dict[str, set[str]] = {
    "torch": ALL - {"decode"},
    "timm": set(),
    "pytest": set(),
    "pydantic": set(),
    "rich": set(),
    "torch-pruning": CUT,
    "onnxscript": {"export"},
    "scikit-learn": set(),
    "pillow": ALL,
}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_s_version_counts_where_it_is_used(
    package: str, tree: Path, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = keys(user), metadata.version
    alike = lambda name: name.replace("_", "-").lower()
    monkeypatch.setattr(metadata, "version", lambda name: "0.0" if alike(name) == package else real(name))
    found = remade(before, keys(user))
    assert found - {"check"} == PACKAGES[package] - {"check"}


def replace_bytes(file: Path) -> None:
    """Other bytes of equal number under the same name, with the old time."""
    before, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def link_class(user: Path) -> None:
    """The class folder becomes a link to one with another image."""
    (user / "photos" / "cat").rename(user / "cats")
    (user / "photos" / "cat").symlink_to(user / "cats")


def add_image(user: Path) -> None:
    shutil.copy(user / "photos" / "cat" / "0.bmp", user / "photos" / "cat" / "9.bmp")


Change = Callable[[Path], object]
BUDGET = "version = 1\nbudgets = { accuracy = 1 }"
FOLDER: dict[str, tuple[Change, set[str]]] = {
    "nothing": (lambda user: None, set()),
    "an unrelated file": (lambda user: (user / "photos" / "notes.txt").write_text("x"), set()),
    "an image touched": (lambda user: os.utime(user / "photos" / "cat" / "0.bmp", (1, 1)), set()),
    "a linked class": (link_class, set()),
    "behind a link": (lambda user: (link_class(user), replace_bytes(user / "cats" / "0.bmp")), ALL),
    "an image's bytes": (lambda user: replace_bytes(user / "photos" / "cat" / "0.bmp"), ALL),
    "an image more": (add_image, ALL),
    "a class's name": (lambda user: (user / "photos" / "cat").rename(user / "photos" / "bat"), ALL),
    "a neighbour": (lambda user: edit(user / "mine" / "blocks.py", "...", "1"), {"check", *AFTER_STUDENT}),
    "a module that is not imported": (lambda user: (user / "mine" / "aside.py").write_text("A = 1"), set()),
    "a budget": (lambda user: edit(user / "recipe.toml", "version = 1", BUDGET), set()),
}


@pytest.mark.parametrize("change", FOLDER)
def test_a_change_of_the_user_s_folder_makes_again_what_depends_on_it(change: str, user: Path) -> None:
    act, expected = FOLDER[change]
    before = keys(user)
    act(user)
    assert remade(before, keys(user)) == expected


def test_equal_recipes_in_two_folders_and_checkouts_have_equal_keys(
    tree: Path, user: Path, tmp_path: Path
) -> None:
    before = keys(user)
    shutil.copytree(user, tmp_path / "elsewhere" / "other")
    assert keys(tmp_path / "elsewhere" / "other") == before
    shutil.move(user, tmp_path / "renamed")
    assert keys(tmp_path / "renamed") == before
    meetings = [
        [stage.settings for stage in planned(folder).stages]
        for folder in (tmp_path / "renamed", tmp_path / "elsewhere" / "other")
    ]
    assert meetings[0] == meetings[1], "by these the machines of one training meet"


def test_a_file_among_the_arguments_counts_by_content_and_not_by_place(user: Path, tmp_path: Path) -> None:
    edit(
        user / "recipe.toml",
        '"mine.net:build"',
        '"mine.net:build", arguments = { config = "size.json", act = "relu" }',
    )
    (user / "size.json").write_text("4")
    (user / "relu").write_text("no path, though it lies here")
    before = keys(user)
    (user / "size.json").rename(user / "wide.json")
    edit(user / "recipe.toml", "size.json", "wide.json")
    assert remade(before, keys(user)) == set()
    (user / "wide.json").write_text("5")
    assert remade(before, keys(user)) == {"check", *AFTER_STUDENT}
    assert planned(user).networks["student"].settings["student"]["arguments"]["act"] == "relu"


def test_settings_inputs_and_parents_count(tmp_path: Path) -> None:
    one, other = tmp_path / "weights.bin", tmp_path / "moved.bin"
    for file in (one, other):
        file.write_bytes(b"tensors")
    stage = lambda seed=0, name="data", file=one: Stage(
        "teach", {"lr": 0.1, "seed": 0}, {name: Stage("decode", {"seed": seed})}, {"weights": Input.of(file)}
    )
    assert stage().key == stage(file=other).key
    assert stage().key == Stage("teach", {"seed": 0, "lr": 0.1}, stage().parents, stage().inputs).key
    other.write_bytes(b"Tensors")
    changed = [stage(seed=1), stage(name="images"), stage(file=other)]
    changed.append(Stage("teach", {"lr": 0.2, "seed": 0}, stage().parents, stage().inputs))
    assert len({stage().key, *(each.key for each in changed)}) == 5
