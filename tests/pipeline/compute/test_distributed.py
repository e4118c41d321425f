"""Two processes train one network: as one process would, and through the death of one of them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import ROOT

torch = pytest.importorskip("torch", reason="training is torch's")


from typer.testing import CliRunner

from pipeline.cli.main import app, workshop
from pipeline.engine.job import Resources
from pipeline.engine.stage import ensure
from pipeline.engine.store import Store
from pipeline.plan import Plan, plan
from pipeline.recipe.read import read_recipe
from support.ranked import furthest, launch, left, write_wanted
from targets.errors import Refusal
from targets.spec.profile import read_profile

EVERY_ROOM = "\ndistill = { epochs = 1 }\nprune = { macs = 0.6, epochs = 1 }\nquantize = { epochs = 1 }\n"


def trained(folder: Path, processes: int, restarts: int = 0, **wanted: Any) -> list[dict[str, Any]]:
    """What each rank is left with."""
    write_wanted(folder, **wanted)
    done = launch(folder, processes, restarts)
    assert done.returncode == 0, done.stderr[-2000:]
    return left(folder, processes)


def test_two_processes_step_as_one(tmp_path: Path) -> None:
    """On a network without batch statistics: four steps, the gradients of each averaged over the halves."""
    (alone,) = trained(tmp_path / "one", 1)
    first, second = trained(tmp_path / "two", 2)
    assert first["history"]["ranks"] == 2 and alone["history"]["ranks"] == 1
    assert furthest(first, second) == 0
    assert furthest(first, alone) < 1e-5
    assert first["history"]["loss"] == pytest.approx(alone["history"]["loss"], rel=1e-5)


@pytest.mark.parametrize("wanted", [{"statistics": True}, {"replay": 2}], ids=str)
def test_a_killed_rank_comes_back_and_nothing_is_lost(wanted: dict[str, Any], tmp_path: Path) -> None:
    """With batch statistics; in its second epoch of three, two steps in."""
    whole = trained(tmp_path / "whole", 2, epochs=3, **wanted)
    killed = trained(tmp_path / "killed", 2, restarts=1, epochs=3, die=6, **wanted)
    assert (tmp_path / "killed" / "died").exists()
    assert furthest(whole[0], killed[0]) == 0 == furthest(whole[0], whole[1])
    assert whole[0]["history"] == killed[0]["history"]


def test_what_one_process_has_asked_the_teacher_the_other_knows(tmp_path: Path) -> None:
    """After one epoch, in which each has seen half of the images."""
    first, second = trained(tmp_path / "two", 2, replay=1)
    assert furthest(first, second) == 0
    files = [np.load(file) for file in sorted(tmp_path.rglob("view 0 rank * of 2.npy"))]
    assert len(files) == 2 and np.array_equal(*files, equal_nan=True)
    assert np.flatnonzero(~np.isnan(files[0]).any(1)).tolist() == list(range(32))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    text = """
    version = 1
    data = "digits"
    teacher = { network = "resnet8", epochs = 1, batch = 128 }
    student = "resnet8"
    """
    (tmp_path / "recipe.toml").write_text(text)
    return tmp_path / "recipe.toml"


def planned(recipe: Path) -> Plan:
    return plan(*read_recipe(str(recipe)), read_profile("cpu"), recipe.with_name("known.json"))


def test_every_stage_that_trains_does_so_in_two_processes(recipe: Path, tmp_path: Path) -> None:
    """Only rank 0 cuts; the others load its file."""
    recipe.write_text(recipe.read_text() + EVERY_ROOM)
    (last,) = (v.checkpoint for v in planned(recipe).variants if (v.network, v.method) == ("pruned", "qat"))
    made = ensure(last, Store(tmp_path / "store"), print, Resources(processes=2))
    notes = [json.loads(file.read_text()) for file in made.parent.glob("*/history.json")]
    histories = [note["training"] for note in notes if "training" in note]
    assert [history["ranks"] for history in histories] == [2, 2, 2, 2]
    assert all(len(history["loss"]) == 1 for history in histories)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


# What a command does on each machine, as far as the networks: their exports would be the same again.
MACHINE = """
import sys
from pathlib import Path
from pipeline.engine.job import Resources
from pipeline.engine.stage import ensure
from pipeline.engine.store import Store
from pipeline.plan import plan
from pipeline.recipe.read import read_recipe
from targets.spec.profile import read_profile
recipe, store, rendezvous = sys.argv[1:]
stages = plan(*read_recipe(recipe), read_profile("cpu"), Path(store) / "known.json")
(last,) = (v.checkpoint for v in stages.variants if (v.network, v.method) == ("pruned", "qat"))
ensure(last, Store(Path(store)), print, Resources(nodes=2, rendezvous=rendezvous))
"""


def test_two_machines_given_the_same_recipe_make_the_same_networks(recipe: Path, tmp_path: Path) -> None:
    """Two launchers of this machine with a store each, the recipe in two folders; only rank 0 cuts."""
    recipe.write_text(recipe.read_text() + EVERY_ROOM)
    meeting, machines = f"localhost:{free_port()}", []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        own = shutil.copy(recipe, tmp_path / name / "recipe.toml")
        command = [sys.executable, "-c", MACHINE, str(own), str(tmp_path / name / "store"), meeting]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        machines.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for machine in machines:
        said = machine.communicate()[1]
        assert machine.returncode == 0, said[-2000:]
    first, second = (tmp_path / name / "store" / "objects" for name in ("first", "second"))
    keys = sorted(path.name for path in first.iterdir())
    assert keys == sorted(path.name for path in second.iterdir())
    networks = [key for key in keys if key.startswith(("teach", "distill", "prune", "quantize"))]
    assert len(networks) == 4
    for key in networks:
        one, other = (objects / key / "model.safetensors" for objects in (first, second))
        assert one.read_bytes() == other.read_bytes()
        assert json.loads((first / key / "history.json").read_text())["training"]["ranks"] == 2


def test_the_options_of_a_command_are_what_its_stages_work_with(tmp_path: Path) -> None:
    made = workshop(Store(tmp_path / "store"), 2, 3, "head:29400", tmp_path / "runs")
    assert made.resources == Resources(2, 3, "head:29400", str(tmp_path / "runs"), False)
    assert made.store.root == tmp_path / "store"


@pytest.mark.parametrize("given", ["", "--rendezvous head", "--rendezvous head:"])
def test_machines_that_cannot_meet_are_refused(given: str) -> None:
    found = CliRunner().invoke(app, ["bundle", "digits", "out", "--nodes", "2", *given.split()])
    assert isinstance(found.exception, Refusal)
    assert "2 nodes meet at HOST:PORT of one of them" in str(found.exception)


def test_more_processes_than_cores_are_refused() -> None:
    cores = os.cpu_count() or 1
    found = CliRunner().invoke(app, ["bundle", "digits", "out", "--processes", str(cores + 1)])
    assert isinstance(found.exception, Refusal)
    assert f"{cores + 1} on a machine with {cores} cores" in str(found.exception)


def test_a_refusal_of_all_ranks_is_told_once(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text().replace("batch = 128", "batch = 2, lr = 1e30"))
    with pytest.raises(Refusal, match="training images in batches of 2 are too few for 3 processes"):
        ensure(planned(recipe).teachers["teacher"], Store(tmp_path / "store"), print, Resources(processes=3))
