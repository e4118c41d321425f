"""The commands of the base install, in a process where torch cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image

from support import ROOT
from targets.budgets.evidence import TestSet
from targets.bundle.bundle import Bundle, write_bundle
from targets.errors import FAILED, PASSED, UNDECIDED, WRONG_INPUT
from targets.limits import Budgets
from targets.measuring.candidate import Candidate
from targets.spec.contract import Contract, write_contract
from targets.spec.profile import Profile

CLASSES = tuple("abcde")
CONTRACT = Contract("nchw-float32", (8, 8), CLASSES)
BLOCKED = ("torch", "onnxscript", "torchvision", "torchao", "safetensors", "torch_pruning", "timm", "sklearn")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``python ARGUMENTS`` where the workshop's packages raise ImportError."""
    wall = tmp_path / "wall"
    wall.mkdir()
    for name in BLOCKED:
        (wall / f"{name}.py").write_text(f"raise ImportError('{name} is blocked')\n")

    def started(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(wall), str(ROOT)])}
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return started


@pytest.fixture
def model(small_network: Callable[[str], Path]) -> Path:
    """A file that carries its contract."""
    path = small_network("nchw-float32")
    proto = onnx.load(path)
    write_contract(proto, CONTRACT)
    onnx.save(proto, path)
    return path


def right(model: Path, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The classes that the network answers."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"images": CONTRACT.prepare(images)})[0]
    return np.asarray(logits).argmax(1)


@pytest.fixture
def questions() -> NDArray[np.uint8]:
    """Images of one shade each, so that they are not all of one class to a network."""
    generator = np.random.default_rng(5)
    shades = generator.integers(0, 256, (24, 1, 1, 3))
    return np.broadcast_to(shades, (24, 8, 8, 3)).astype(np.uint8)


def test_the_wall_stands(run: Run) -> None:
    for name in BLOCKED:
        done = run("-c", f"import {name}")
        assert done.returncode == 1 and f"{name} is blocked" in done.stderr


def bundled(
    folder: Path, model: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], **more: object
) -> None:
    np.save(folder.with_suffix(".npy"), images)
    about = {"name": "here", "about": "a test", "backend": "onnxruntime", "rewrite": "none", "seconds": 0.25}
    profile = Profile.model_validate({**about, **more})
    candidates = [Candidate("float", model, "float32"), Candidate("int8", model, "int8")]
    test_set, place = TestSet(labels, CLASSES, {}), folder.with_suffix(".npy")
    budgets = Budgets(accuracy=50)
    write_bundle(Bundle("mine", profile, budgets, CONTRACT, candidates, place, test_set, [], {}), folder)


@pytest.mark.parametrize(
    ("shift", "remote", "status"), [(0, False, PASSED), (1, False, FAILED), (0, True, UNDECIDED)]
)
def test_a_bundle_is_measured(
    shift: int, remote: bool, status: int, run: Run, model: Path, questions: NDArray[np.uint8], tmp_path: Path
) -> None:
    labels = (right(model, questions) + shift) % len(CLASSES)
    bundled(tmp_path / "bundle", model, questions, labels, remote=remote)
    done = run("-m", "pipeline.cli.main", "measure", "bundle", "--out", "report")
    assert done.returncode == status, done.stdout + done.stderr
    table = json.loads((tmp_path / "report" / "report.json").read_text())
    assert table["status"] == status and table["test_images"] == len(questions)
    (target,) = table["targets"]
    assert set(target["candidates"]) == (set() if remote else {"float", "int8"})
    assert {line["outcome"] for line in target["lines"]} == {
        {0: "PASS", 1: "FAIL", 3: "NOT MEASURED"}[status]
    }
    assert {path.name for path in (tmp_path / "report").glob("*.*")} >= {"report.html", "junit.xml"}


def test_no_bundle_is_one_line_and_status_2(run: Run) -> None:
    done = run("-m", "pipeline.cli.main", "measure", "nowhere")
    assert done.returncode == WRONG_INPUT
    (line,) = done.stderr.splitlines()
    assert line.startswith("retort: nowhere: no bundle")


def photos(folder: Path, images: NDArray[np.uint8], labels: Sequence[int]) -> None:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / CLASSES[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / CLASSES[label] / f"{number}.png")


@pytest.mark.parametrize(("shift", "limit", "status"), [(0, 1, PASSED), (1, 90, FAILED)])
def test_a_given_file_is_judged(
    shift: int, limit: int, status: int, run: Run, model: Path, questions: NDArray[np.uint8], tmp_path: Path
) -> None:
    labels = (right(model, questions) + shift) % len(CLASSES)
    assert len(set(labels.tolist())) > 1, "a gate wants two classes"
    photos(tmp_path / "photos", questions, labels.tolist())
    quick = (ROOT / "targets" / "spec" / "profiles" / "cpu.toml").read_text() + "seconds = 0.25\n"
    (tmp_path / "quick.toml").write_text(quick)
    words = ["gate", str(model), "--images", "photos", "--budget", f"accuracy={limit}"]
    done = run("-m", "pipeline.cli.main", *words, "--target", "quick.toml", "--out", "report")
    assert done.returncode == status, done.stdout + done.stderr
    table = json.loads((tmp_path / "report" / "report.json").read_text())
    assert table["status"] == status and table["classes"] == list(CLASSES)
    (line,) = table["targets"][0]["lines"]
    assert line["budget"] == "accuracy" and line["estimate"]["value"] == (0 if shift else 100)


def test_a_given_file_is_quantized(
    run: Run, model: Path, questions: NDArray[np.uint8], tmp_path: Path
) -> None:
    photos(tmp_path / "photos", questions, right(model, questions).tolist())
    quick = (ROOT / "targets" / "spec" / "profiles" / "cpu.toml").read_text() + "seconds = 0.25\n"
    (tmp_path / "quick.toml").write_text(quick)
    words = [
        "quantize",
        str(model),
        "--images",
        "photos",
        "--calibration",
        "8",
        "--budget",
        "drop_vs_float=60",
    ]
    done = run("-m", "pipeline.cli.main", *words, "--target", "quick.toml", "--out", "report")
    assert done.returncode == PASSED, done.stdout + done.stderr
    (target,) = json.loads((tmp_path / "report" / "report.json").read_text())["targets"]
    assert target["candidates"]["int8"]["facts"]["operators"]["QLinearConv"] == 2


def test_a_given_file_is_explained(
    run: Run, model: Path, questions: NDArray[np.uint8], tmp_path: Path
) -> None:
    photos(tmp_path / "photos", questions, right(model, questions).tolist())
    words = ["explain", str(model), "--images", "photos", "--json", "said.json"]
    done = run("-m", "pipeline.cli.main", *words)
    assert done.returncode == PASSED, done.stdout + done.stderr
    first, *lines = done.stdout.splitlines()
    assert first.startswith("3 of 3 convolutions and products will run in int8 on cpu")
    assert sum(line.startswith("int8 ") and " Conv " in line for line in lines) == 1, "one line for both"
    said = json.loads((tmp_path / "said.json").read_text())
    assert (said["int8"], said["of"], said["plan"]["QLinearConv"]) == (3, 3, 2)
    assert len(said["distance_db"]) > 3 and min(said["distance_db"].values()) > 20
    every = run("-m", "pipeline.cli.main", "explain", str(model), "--all").stdout.splitlines()
    assert sum(" Conv " in line for line in every) == 2


def test_a_bundle_that_was_changed_is_refused_and_one_without_a_manifest_is_said_to_be(
    run: Run, model: Path, questions: NDArray[np.uint8], tmp_path: Path
) -> None:
    bundled(tmp_path / "bundle", model, questions, right(model, questions))
    measure = ("-m", "pipeline.cli.main", "measure", "bundle", "--out", "report")
    labels = (tmp_path / "bundle" / "labels.npy").read_bytes()
    (tmp_path / "bundle" / "labels.npy").write_bytes(labels[:-1] + b"\x07")
    for more in ((), ("--unverified",)):
        done = run(*measure, *more)
        assert done.returncode == WRONG_INPUT
        assert done.stderr.startswith("retort: bundle/labels.npy: changed since"), done.stderr
    (tmp_path / "bundle" / "labels.npy").write_bytes(labels)
    (tmp_path / "bundle" / "manifest.json").unlink()
    done = run(*measure)
    assert done.returncode == WRONG_INPUT and "--unverified" in done.stderr
    done = run(*measure, "--unverified")
    assert done.returncode == PASSED and "not verified: it has no manifest.json" in done.stdout, done.stderr
    assert "not verified" in (tmp_path / "report" / "summary.md").read_text()
    done = run("-m", "pipeline.cli.main", "verify", "report/here")
    assert done.returncode == PASSED and "as manifest.json has them" in done.stdout, done.stderr
