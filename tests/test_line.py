"""The whole line as its user meets it: commands in processes of their own, killed and run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the workshop needs torch: pip install 'retort[train]'")

from safetensors.torch import load, save

from support.processes import below

Done = subprocess.CompletedProcess[str]

# A user's network in a file of an unlucky name. When told to, it kills its own stage and the command above it,
# at a call of its forward that is the same in each run.
NETWORK = """
import os, signal, sys
from pathlib import Path
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, classes, width):
        super().__init__()
        self.a, self.n = nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width)
        self.b, self.c = nn.Conv2d(width, 2 * width, 3, 2, 1), nn.Conv2d(2 * width, 2 * width, 3, 1, 1)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x):
        # Of all networks of this process: each checkpoint brings this file as a module of its own.
        torch.calls = getattr(torch, "calls", 0) + 1
        room, _, call = os.environ.get("KILL", "none:0").partition(":")
        job = Path(sys.argv[1])
        if job.parent.parent.name.startswith(room + "-") and torch.calls == int(call):
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        y = F.relu(self.b(F.relu(self.n(self.a(x)))))
        return self.head(F.relu(self.c(y) + y).mean((2, 3)))

def build(classes, width=16):
    return Net(classes, width)
"""

RECIPE = """
version = 1
data = { folder = "photos", size = 32, test = 0.3 }
teacher = { network = "pipeline:build", arguments = { width = 24 }, epochs = 4, lr = 0.02 }
teachers = [{ network = "pipeline:build", epochs = 2, lr = 0.02 }]
student = "pipeline:build"
distill = { epochs = 4, lr = 0.02, loss = [{ name = "kd" }, { name = "srkd" }, { name = "crd", weight = 0.1 }] }
quantize = { epochs = 3, teachers = "random", loss = [{ name = "dkd" }, { name = "reviewkd" }, { name = "sp" }] }
budgets = { drop_vs_float = 50, size_mb = 1 }
"""

PROFILE = """
about = "quick"
backend = "onnxruntime"
seconds = 0.5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, its network and its images: three kinds of bright squares on noise."""
    root = tmp_path_factory.mktemp("user")
    random = np.random.default_rng(0)
    for label in range(3):
        (root / "photos" / f"kind {label}").mkdir(parents=True)
        for number in range(60):
            image = random.integers(0, 90, (40, 36, 3), dtype=np.uint8)
            image[6 + 10 * label : 16 + 10 * label, 8:28, label] = 250
            Image.fromarray(image).save(root / "photos" / f"kind {label}" / f"{number}.png")
    (root / "pipeline.py").write_text(NETWORK)
    (root / "recipe.toml").write_text(RECIPE)
    (root / "quick.toml").write_text(PROFILE)
    return root


def start(folder: Path, store: str, recipe: str = "recipe.toml", kill: str = "") -> subprocess.Popen[str]:
    """``retort deploy``, in the user's folder; PYTHONSAFEPATH as the installed command has it."""
    command = [sys.executable, "-m", "pipeline.cli.main", "deploy", recipe, "--target", "quick.toml"]
    return subprocess.Popen(
        [*command, "--store", store, "--out", f"out-{store}"],
        cwd=folder,
        env={**os.environ, "KILL": kill, "PYTHONSAFEPATH": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def retort(folder: Path, store: str, recipe: str = "recipe.toml", kill: str = "") -> Done:
    running = start(folder, store, recipe, kill)
    out, err = running.communicate()
    return Done(running.args, running.returncode, out, err)


def tensors(folder: Path, store: str, room: str) -> dict[str, bytes]:
    """The tensors of a room's artifacts, by their keys."""
    found = (folder / store / "objects").glob(f"{room}-*")
    return {path.name: (path / "model.safetensors").read_bytes() for path in found}


def report(folder: Path, store: str) -> dict[str, object]:
    table = json.loads((folder / f"out-{store}" / "report.json").read_text())
    assert isinstance(table, dict)
    return table


@pytest.fixture(scope="module")
def whole(folder: Path) -> Done:
    """The run that nobody disturbs."""
    return retort(folder, "whole")


def test_a_recipe_goes_the_whole_line(folder: Path, whole: Done) -> None:
    assert whole.returncode == 0, whole.stderr
    table = report(folder, "whole")
    (target,) = table["targets"]  # type: ignore[misc]
    assert {line["budget"]: line["outcome"] for line in target["lines"]} == {
        "drop_vs_float": "PASS",
        "size_mb": "PASS",
    }
    assert (folder / "out-whole" / "quick" / target["candidates"][target["ship"]]["artifact"]).is_file()
    assert target["candidates"]["int8"]["facts"]["operators"]["QLinearConv"] == 3
    assert "PASS" in whole.stdout and "drop_vs_float" in whole.stdout
    cases = ElementTree.parse(folder / "out-whole" / "junit.xml").getroot().iter("testcase")
    assert len(list(cases)) == 2
    assert "size_mb" in (folder / "out-whole" / "summary.md").read_text()


def test_again_everything_is_cached_but_the_measurement(folder: Path, whole: Done) -> None:
    before = report(folder, "whole")
    again = retort(folder, "whole")
    after = report(folder, "whole")
    assert again.returncode == 0
    assert before["lineage"] == after["lineage"]
    old, new = (table["targets"][0]["candidates"]["int8"] for table in (before, after))  # type: ignore[index]
    assert old["accuracy"] == new["accuracy"]
    assert old["times_ms"] != new["times_ms"], "a latency is measured anew"


def test_killed_in_every_room_it_comes_to_the_same_student(folder: Path, whole: Done) -> None:
    for kill in ("teach:7", "distill:7", "quantize:7"):
        room = kill.split(":")[0]
        killed = retort(folder, "killed", kill=kill)
        assert killed.returncode == -signal.SIGKILL, (kill, killed.stderr)
        assert not list((folder / "killed" / "objects").glob(f"{room}-*")), "half an artifact"
    kill_while_measuring(folder)
    last = retort(folder, "killed")
    assert last.returncode == 0, last.stderr
    for room in ("teach", "distill", "quantize"):
        one, other = (tensors(folder, store, room) for store in ("whole", "killed"))
        assert len(one) == (2 if room == "teach" else 1)
        assert one == other, room
    accuracies = [
        report(folder, store)["targets"][0]["candidates"]["int8"]["recall"]  # type: ignore[index]
        for store in ("whole", "killed")
    ]
    assert accuracies[0] == accuracies[1]


def kill_while_measuring(folder: Path) -> None:
    """Start the line once more and kill it when its runner is at work."""
    running = start(folder, "killed")
    deadline = time.monotonic() + 300
    while not below(running.pid, "runner"):
        assert running.poll() is None, "it ended before it measured"
        assert time.monotonic() < deadline
    running.kill()
    assert running.wait() == -signal.SIGKILL


def test_two_runs_at_once_do_no_harm(folder: Path, whole: Done) -> None:
    both = [start(folder, "both") for _ in range(2)]
    said = [run.communicate()[1] for run in both]
    assert [run.returncode for run in both] == [0, 0], said
    assert tensors(folder, "whole", "quantize") == tensors(folder, "both", "quantize") != {}


def test_a_given_teacher_leaves_the_line_as_it_came(folder: Path, whole: Done) -> None:
    """Its tensors, to the bit; and a student that was given is no worse after a training that ruins it."""
    taught, *_ = tensors(folder, "whole", "teach").values()
    given = folder / "given.safetensors"
    given.write_bytes(strip(taught))
    width = len(load(given.read_bytes())["a.weight"])
    text = f"""
version = 1
data = {{ folder = "photos", size = 32, test = 0.3 }}
teacher = {{ network = "pipeline:build", arguments = {{ width = {width} }}, weights = "given.safetensors" }}
student = {{ network = "pipeline:build", arguments = {{ width = {width} }}, weights = "given.safetensors" }}
distill = {{ epochs = 1, lr = 1e-9 }}
quantize = {{ epochs = 1 }}
budgets = {{ drop_vs_float = 50 }}
"""
    (folder / "given.toml").write_text(text)
    done = retort(folder, "given", "given.toml")
    assert done.returncode == 0, done.stderr
    (kept,) = tensors(folder, "given", "teach").values()
    assert load(kept).keys() == load(taught).keys()
    assert all(torch.equal(tensor, load(taught)[name]) for name, tensor in load(kept).items())
    assert "given tensors taken; new: nothing" in done.stderr
    candidates = report(folder, "given")["targets"][0]["candidates"]  # type: ignore[index]
    assert set(candidates) == {"float", "int8", "int8-ptq"}


def test_without_a_teacher_peers_teach_and_the_float_student_teaches_its_int8(
    folder: Path, whole: Done
) -> None:
    text = """
version = 1
data = { folder = "photos", size = 32, test = 0.3 }
student = "pipeline:build"
distill = { epochs = 4, lr = 0.02, scheme = { name = "mutual", peers = ["student", "resnet8"] } }
quantize = { epochs = 1, lr = 1e-3 }
budgets = { drop_vs_float = 50 }
"""
    (folder / "alone.toml").write_text(text)
    done = retort(folder, "alone", "alone.toml")
    assert done.returncode == 0, done.stderr
    assert tensors(folder, "alone", "teach") == {}
    (notes,) = (folder / "alone" / "objects").glob("distill-*/history.json")
    assert set(json.loads(notes.read_text())["training"]["others"]) == {"peer 1", "peer 2"}
    made = report(folder, "alone")
    assert set(made["targets"][0]["candidates"]) == {"float", "int8", "int8-ptq"}  # type: ignore[index]
    assert [one["name"] for one in made["networks"]] == ["student"]  # type: ignore[index]


def strip(taught: bytes) -> bytes:
    """A kept model's tensors under the network's own names, as a user has them."""
    return save({name.removeprefix("network."): tensor for name, tensor in load(taught).items()})


WRONG = [
    ("student", "pipeline:biuld", "has no function 'biuld'"),
    ("student", "resnet9", "did you mean 'resnet8'"),
    ("distill", {"loss": [{"name": "srdk"}]}, "did you mean 'srkd'"),
    ("distill", {"loss": [{"name": "kd", "temprature": 2}]}, "did you mean 'temperature'"),
    ("distill", {"loss": [{"name": "fitnet", "stage": 9}]}, "there are 2 pairs of stages"),
]


@pytest.mark.parametrize(("key", "value", "said"), WRONG)
def test_a_wrong_name_is_refused_before_the_first_batch(
    folder: Path, whole: Done, key: str, value: object, said: str
) -> None:
    lines = [line for line in RECIPE.strip().splitlines() if not line.startswith(f"{key} =")]
    (folder / "wrong.toml").write_text("\n".join([*lines, f"{key} = {toml(value)}"]))
    done = retort(folder, "whole", "wrong.toml")
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert "teach" not in done.stderr


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else json.dumps(value)
