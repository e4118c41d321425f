"""What make installs: for a deployment what its target needs and no more, for the tests all extras."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from support import ROOT
from targets.spec.profile import GROUPS, profiles, read_profile

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
ALL = {"train", "openvino", "tensorrt-rtx", "litert", "tensorboard", "provenance", "dev"}
# By a target's backend: the extra that brings its runtime, or what writes or checks its files.
OF_BACKEND = {
    "openvino": {"openvino"},
    "litert": {"litert"},
    "tensorrt": {"tensorrt-rtx"},
    "onnxruntime": set(),
}


def commands(folder: Path, *words: str) -> str:
    """What make would do where nothing is installed yet."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    call = ["make", "-n", f"VENV={folder / 'none'}", *words]
    return subprocess.run(call, cwd=ROOT, env=plain, capture_output=True, text=True, check=True).stdout


def extras(said: str) -> set[str]:
    (found,) = (line for line in said.splitlines() if " pip install " in line)
    return set(found.partition("'.[")[2].partition("]'")[0].split(","))


@pytest.mark.parametrize("target", [*profiles(), *GROUPS])
def test_a_deployment_installs_what_its_target_needs(target: str, tmp_path: Path) -> None:
    read = [read_profile(name) for name in GROUPS.get(target, (target,))]
    needed = set().union(*(OF_BACKEND[profile.backend] for profile in read if target != "tensorrt"))
    assert extras(commands(tmp_path, "deploy", f"TARGET={target}")) == {"train", *needed}


def test_several_targets_add_up_and_all_need_all(tmp_path: Path) -> None:
    assert extras(commands(tmp_path, "deploy", "TARGET=cpu,openvino,jetson")) == {
        "train",
        "openvino",
        "tensorrt-rtx",
    }
    assert extras(commands(tmp_path, "deploy", "TARGET=all")) == ALL - {"tensorboard", "provenance", "dev"}
    assert extras(commands(tmp_path, "deploy", "TARGET=my/board.toml")) == {"train"}


@pytest.mark.parametrize("goal", ["test", "check", "bench", "fuzz", "mutants", "doctor"])
def test_the_other_goals_install_all(goal: str, tmp_path: Path) -> None:
    assert extras(commands(tmp_path, goal)) == ALL


def test_every_extra_is_one_of_the_project_s() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(known) >= ALL


@pytest.mark.parametrize(
    ("index", "passed"), [("", []), ("file:///w x", ["--extra-index-url", "file:///w x"])]
)
def test_an_index_for_torch_is_passed_on(index: str, passed: list[str], tmp_path: Path) -> None:
    """The command itself is run, with a stand-in for the interpreter that prints what it is given."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("python", "retort"):
        (venv / "bin" / name).write_text('#!/bin/sh\nprintf "[%s]" "$@"; echo\n')
        (venv / "bin" / name).chmod(0o755)
    call = ["make", "deploy", f"VENV={venv}", f"PYTHON={venv / 'bin' / 'python'}", f"TORCH_INDEX={index}"]
    said = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (installed,) = (line for line in said.splitlines() if line.startswith("[-m][pip][install]"))
    assert ("".join(f"[{word}]" for word in passed) in installed) and ("--extra" in installed) == bool(passed)
    assert (venv / ".ready-train").exists()
