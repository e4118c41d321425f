"""Stages: what their keys depend on and what not, and how a child process's end reaches the parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine import code_digest, process
from pipeline.engine.stage import Input, Stage, ensure
from pipeline.engine.store import Store
from support.tree import copy_project
from targets.errors import BROKEN, UNDECIDED, WRONG_INPUT, Broken, Refusal, Unmeasurable

# A stage that does what its settings say. It reaches far.py through near.py, inside a function.
TOY = """
import atexit, json, os, runpy, signal, tempfile, threading
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

def edited(job):
    copy(job)
    job.inputs["net.py"].write_text("what its user wrote meanwhile")

def late(job):
    copy(job)
    atexit.register(os.kill, os.getpid(), signal.SIGTERM)

def miss(job):
    import no_such_package

def disk(job):
    raise OSError(28, "No space left on device")

def bug(job):
    raise ValueError("first line\\nsecond line")

def users(job):
    code = job.scratch.parent / "net.py"
    code.write_text("import json\\n\\njson.loads('{')\\n")
    runpy.run_path(str(code))

def memory(job):
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

def die(job):
    os.kill(os.getpid(), signal.SIGKILL)

def wait(job):
    with tempfile.TemporaryDirectory():
        print("inside", flush=True)
        threading.Event().wait(60)
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the project with the stage ``toy`` in it, in place of the project itself."""
    tree = copy_project(tmp_path / "tree")
    (tree / "pipeline" / "stages" / "toy.py").write_text(TOY)
    (tree / "pipeline" / "near.py").write_text("")
    monkeypatch.setattr(process, "ROOT", tree)
    monkeypatch.setattr(code_digest, "ROOT", tree)
    code_digest.forget()
    yield tree
    code_digest.forget()


class Toys:
    """Stages of the toy room and the store that they are made in."""

    def __init__(self, folder: Path) -> None:
        self.store, self.log, self.said = Store(folder / "store"), folder / "log", list[str]()

    def stage(self, do: str, *, parents: dict[str, Stage] | None = None, **more: Any) -> Stage:
        inputs = {name: Input.of(path) for name, path in more.pop("inputs", {}).items()}
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
    assert (origin["stage"], origin["parents"]) == ("toy", {"data": parent.key})
    assert origin["settings"] == child.settings and origin["seconds"] >= 0


ENDINGS = [
    ("refuse", Refusal, WRONG_INPUT, ["data: no such thing; mend it"]),
    ("cannot", Unmeasurable, UNDECIDED, ["device: none here"]),
    ("miss", Unmeasurable, UNDECIDED, ["no_such_package", "pip install"]),
    ("disk", Unmeasurable, UNDECIDED, ["toy", "No space left"]),
    ("bug", Broken, BROKEN, ["toy", "ValueError", "first line", "report it"]),
    ("users", Refusal, WRONG_INPUT, ["toy", "net.py, line 3", "JSONDecodeError", "mend it there"]),
    ("memory", Unmeasurable, UNDECIDED, ["toy", "smaller batch"]),
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
    stage, source = toys.stage("die"), tree / "pipeline" / "stages" / "toy.py"
    with pytest.raises(Unmeasurable):
        toys.ensure(stage)
    assert (toys.store.work / stage.key / "scratch" / "progress").read_text() == "half"
    # The key of this stage object is drawn already: with another source it is the same work that goes on.
    source.write_text(source.read_text().replace("os.kill(os.getpid(), signal.SIGKILL)", "copy(job)"))
    assert (toys.ensure(stage) / "made").is_file()
    assert toys.runs() == ["die", "die"]
    assert not (toys.store.work / stage.key).exists()


@pytest.mark.parametrize("do", ["copy", "edited"])
def test_what_is_edited_while_a_run_is_at_work_is_kept_under_no_key(
    do: str, toys: Toys, tmp_path: Path
) -> None:
    """Before the stage begins, and while it runs."""
    (code := tmp_path / "net.py").write_text("as the key says")
    stage = toys.stage(do, inputs={"net.py": code})
    if do == "copy":
        code.write_text("as it was edited while a teacher trained")
    with pytest.raises(Refusal, match=r"net\.py: it was changed while this run was at work; run again"):
        toys.ensure(stage)
    assert not toys.store.has(stage.key) and toys.log.exists() == (do == "edited")


def test_a_refusal_of_an_earlier_try_is_not_told_again(toys: Toys, tree: Path) -> None:
    stage = toys.stage("refuse")
    with pytest.raises(Refusal):
        toys.ensure(stage)
    source = tree / "pipeline" / "stages" / "toy.py"
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
import signal, sys
from pathlib import Path
from pipeline.engine.stage import Stage, ensure
from pipeline.engine.store import Store
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
ensure(Stage("toy", {"do": "wait", "log": sys.argv[2]}), Store(Path(sys.argv[1])), print)
"""


def test_a_signal_that_comes_when_the_stage_is_done_is_not_heard(
    toys: Toys, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (toys.ensure(toys.stage("late")) / "made").exists() and capfd.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_goes_with_its_parent_and_clears_away(number: int, tree: Path, tmp_path: Path) -> None:
    """Both hold the pipe that is read here: it ends when both are gone. The room would wait for a minute."""
    command = [sys.executable, "-P", "-c", PARENT, str(tmp_path / "store"), str(tmp_path / "log")]
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tree), "TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "inside\n"
        os.kill(parent.pid, number)
        assert parent.communicate(timeout=30)[0] == ""
    assert list((tmp_path / "store" / "objects").iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []
