"""Stages: what their keys depend on and what not, and how a child process's end reaches the parent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine import stage as module
from pipeline.engine.stage import Stage, ensure
from pipeline.engine.store import Store
from pipeline.plan import plan
from pipeline.recipe.read import read_recipe
from targets.errors import UNDECIDED, WRONG_INPUT, Refusal, Unmeasurable
from targets.spec.profile import read_profile

# A room that does what its settings say. It reaches far.py through near.py, inside a function.
TOY = """
import json, os, signal, threading
from pipeline import near
from targets.errors import Refusal, Unmeasurable

def run(job):
    with open(job.settings["log"], "a") as log:
        log.write(job.settings["do"] + "\\n")
    (job.scratch / "progress").write_text("half")
    globals()[job.settings["do"]](job)

def copy(job):
    read = {name: (path / "made").read_text() for name, path in job.parents.items()}
    given = {name: path.read_text() for name, path in job.inputs.items()}
    (job.out / "made").write_text(json.dumps([job.settings.get("word"), read, given]))

def refuse(job):
    raise Refusal("data: no such thing; mend it")

def cannot(job):
    raise Unmeasurable("device: none here")

def miss(job):
    import no_such_package

def disk(job):
    raise OSError(28, "No space left on device")

def bug(job):
    raise ValueError("first line\\nsecond line")

def die(job):
    os.kill(os.getpid(), signal.SIGKILL)

def wait(job):
    print("inside", flush=True)
    threading.Event().wait(60)
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the project with the room ``toy`` in it, in place of the project itself."""
    for package in ("pipeline", "targets"):
        source = module.PACKAGE.parent / package
        shutil.copytree(source, tmp_path / "tree" / package, ignore=shutil.ignore_patterns("__pycache__"))
    tree = tmp_path / "tree"
    (tree / "pipeline" / "toy.py").write_text(TOY)
    (tree / "pipeline" / "near.py").write_text("def deeper():\n    import targets.far\n")
    (tree / "targets" / "far.py").write_text("STEPS = 1\n")
    (tree / "pipeline" / "aside.py").write_text("import pipeline.toy\n")
    monkeypatch.setattr(module, "PACKAGE", tree / "pipeline")
    forget()
    yield tree
    forget()


def forget() -> None:
    """A process sees one state of the sources and packages; a test sees several."""
    module.code_digest.cache_clear()
    module.versions.cache_clear()


Key = Callable[..., str]


@pytest.fixture
def key(tree: Path) -> Key:
    def make(settings: dict[str, Any] | None = None, room: str = "toy", **more: Any) -> str:
        forget()
        return Stage(room, {"lr": 0.1, "seed": 0} if settings is None else settings, **more).key

    return make


def test_a_key_is_the_same_when_nothing_changes(key: Key) -> None:
    assert key() == key() == key({"seed": 0, "lr": 0.1})
    assert key().startswith("toy-") and key(room="aside").split("-")[1] != key().split("-")[1]


@pytest.mark.parametrize("settings", [{"lr": 0.2, "seed": 0}, {"lr": 0.1}, {"lr": 0.1, "seed": "0"}, {}])
def test_a_key_changes_with_the_settings(key: Key, settings: dict[str, Any]) -> None:
    assert key(settings) != key()


def test_a_key_changes_with_a_parent_and_a_parents_parent(key: Key) -> None:
    def child(seed: int, name: str = "data") -> str:
        eldest = Stage("toy", {"seed": seed})
        return key(parents={name: Stage("toy", {}, {"data": eldest})})

    assert child(1) == child(1)
    assert len({child(1), child(2), child(1, "teacher"), key()}) == 4


def test_a_key_changes_with_the_content_of_an_input_but_not_with_its_place(key: Key, tmp_path: Path) -> None:
    first, moved = tmp_path / "weights.bin", tmp_path / "moved" / "other.bin"
    moved.parent.mkdir()
    for path in (first, moved):
        path.write_bytes(b"tensors")
    before = key(inputs={"weights": first})
    assert key(inputs={"weights": moved}) == before
    os.utime(first, (1, 1))
    assert key(inputs={"weights": first}) == before
    first.write_bytes(b"Tensors")
    assert key(inputs={"weights": first}) != before
    assert key(inputs={"source": moved}) != before


REACHED = ["pipeline/toy.py", "pipeline/near.py", "targets/far.py", "targets/refusal.py"]


@pytest.mark.parametrize("name", REACHED)
def test_a_key_changes_with_any_source_that_is_reached(key: Key, tree: Path, name: str) -> None:
    before = key()
    (tree / name).write_text((tree / name).read_text() + "\nMORE = 1\n")
    assert key() != before


@pytest.mark.parametrize("name", ["pipeline/aside.py", "pipeline/train.py", "targets/report.py"])
def test_a_key_does_not_change_with_a_source_that_is_not_reached(key: Key, tree: Path, name: str) -> None:
    before = key()
    (tree / name).write_text((tree / name).read_text() + "\nMORE = 1\n")
    assert key() == before


def test_a_key_changes_when_an_import_is_added(key: Key, tree: Path) -> None:
    before = key()
    (tree / "targets" / "far.py").write_text("from pipeline.aside import run\n")
    reached = key()
    (tree / "pipeline" / "aside.py").write_text("MORE = 1\n")
    assert len({before, reached, key()}) == 3


@pytest.mark.parametrize(("package", "counts"), [("torch", True), ("numpy", True), ("pytest", False)])
def test_a_key_changes_with_the_versions_that_change_tensors(
    key: Key, monkeypatch: pytest.MonkeyPatch, package: str, counts: bool
) -> None:
    before, real = key(), metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.0" if name == package else real(name))
    assert (key() != before) == counts


def test_the_data_stage_changes_when_an_image_of_its_folder_does(tmp_path: Path) -> None:
    """New images under the old names must not be answered from the cache."""
    for name in ("cat/1.png", "dog/1.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        (tmp_path / "photos" / name).write_bytes(b"old")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('version = 1\nteacher = "resnet20"\nstudent = "resnet8"\ndata.folder = "photos"\n')

    def data_key() -> str:
        return plan(*read_recipe(str(recipe)), read_profile("cpu"))["data"].key

    before = data_key()
    assert data_key() == before
    (tmp_path / "photos" / "cat" / "1.png").write_bytes(b"new")
    changed = data_key()
    (tmp_path / "photos" / "cat" / "2.png").write_bytes(b"old")
    assert len({before, changed, data_key()}) == 3


class Toys:
    """Stages of the toy room and the store that they are made in."""

    def __init__(self, folder: Path) -> None:
        self.store, self.log, self.said = Store(folder / "store"), folder / "log", list[str]()

    def stage(self, do: str, *, parents: dict[str, Stage] | None = None, **more: Any) -> Stage:
        inputs = more.pop("inputs", {})
        return Stage("toy", {"do": do, "log": str(self.log), **more}, parents or {}, inputs)

    def ensure(self, stage: Stage) -> Path:
        return ensure(stage, self.store, self.said.append)

    def runs(self) -> list[str]:
        return self.log.read_text().split()


@pytest.fixture
def toys(tree: Path, tmp_path: Path) -> Toys:
    return Toys(tmp_path)


def test_ensure_makes_the_stage_and_all_it_stands_on_once(toys: Toys, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("weights")
    parent = toys.stage("copy", word="parent", inputs={"weights": tmp_path / "given"})
    child = toys.stage("copy", word="child", parents={"data": parent})
    made = toys.ensure(child)
    assert made == toys.store.path(child.key)
    word, read, given = json.loads((made / "made").read_text())
    assert (word, given) == ("child", {})
    assert json.loads(read["data"]) == ["parent", {}, {"weights": "weights"}]
    assert toys.ensure(child) == made
    assert toys.runs() == ["copy", "copy"]
    origin = json.loads((made / "origin.json").read_text())
    assert (origin["room"], origin["parents"]) == ("toy", {"data": parent.key})
    assert origin["settings"] == child.settings and origin["seconds"] >= 0


ENDINGS = [
    ("refuse", Refusal, WRONG_INPUT, ["data: no such thing; mend it"]),
    ("cannot", Unmeasurable, UNDECIDED, ["device: none here"]),
    ("miss", Unmeasurable, UNDECIDED, ["no_such_package", "pip install"]),
    ("disk", Unmeasurable, UNDECIDED, ["toy", "No space left"]),
    ("bug", Unmeasurable, UNDECIDED, ["toy", "ValueError", "first line"]),
    ("die", Unmeasurable, UNDECIDED, ["toy", "killed by signal 9", "run again"]),
]


@pytest.mark.parametrize(("do", "kind", "status", "words"), ENDINGS)
def test_a_childs_end_comes_back_as_one_line_with_its_status(
    toys: Toys, do: str, kind: type[Refusal], status: int, words: list[str]
) -> None:
    with pytest.raises(Refusal) as caught:
        toys.ensure(toys.stage(do))
    assert type(caught.value) is kind and caught.value.status == status
    message = str(caught.value)
    assert [word for word in words if word not in message] == [] and "\n" not in message
    if do in ("refuse", "cannot"):
        assert message == words[0]
    assert list(toys.store.objects.iterdir()) == []


def test_a_stage_that_failed_can_be_made_and_finds_its_scratch(toys: Toys, tree: Path) -> None:
    stage, source = toys.stage("die"), tree / "pipeline" / "toy.py"
    with pytest.raises(Unmeasurable):
        toys.ensure(stage)
    assert (toys.store.work / stage.key / "scratch" / "progress").read_text() == "half"
    # The key of this stage object is drawn already: with another source it is the same work that goes on.
    source.write_text(source.read_text().replace("os.kill(os.getpid(), signal.SIGKILL)", "copy(job)"))
    assert (toys.ensure(stage) / "made").is_file()
    assert toys.runs() == ["die", "die"]
    assert not (toys.store.work / stage.key).exists()


def test_a_refusal_of_an_earlier_try_is_not_told_again(toys: Toys, tree: Path) -> None:
    stage = toys.stage("refuse")
    with pytest.raises(Refusal):
        toys.ensure(stage)
    source = tree / "pipeline" / "toy.py"
    source.write_text(source.read_text().replace('raise Refusal("data', 'print("data'))
    assert toys.ensure(stage) == toys.store.path(stage.key)


def test_the_users_folder_shadows_nothing(
    toys: Toys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe's own pipeline.py and json.py lie where the user stands."""
    (tmp_path / "user").mkdir()
    for name in ("pipeline.py", "json.py", "targets.py"):
        (tmp_path / "user" / name).write_text("raise SystemExit('shadowed')\n")
    monkeypatch.chdir(tmp_path / "user")
    assert (toys.ensure(toys.stage("copy")) / "made").is_file()


PARENT = """
import sys
from pathlib import Path
from pipeline.engine.stage import Stage, ensure
from pipeline.engine.store import Store
ensure(Stage("toy", {"do": "wait", "log": sys.argv[2]}), Store(Path(sys.argv[1])), print)
"""


def test_a_child_goes_when_its_parent_is_killed(tree: Path, tmp_path: Path) -> None:
    """Both hold the pipe that is read here: it ends when both are gone. The room would wait for a minute."""
    command = [sys.executable, "-P", "-c", PARENT, str(tmp_path / "store"), str(tmp_path / "log")]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "inside\n"
        os.kill(parent.pid, signal.SIGKILL)
        assert parent.communicate(timeout=30)[0] == ""
    assert list((tmp_path / "store" / "objects").iterdir()) == []
