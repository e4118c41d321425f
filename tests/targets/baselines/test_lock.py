"""The lock: what was accepted is found again by its digest, from the file or from git, or refused in a line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from typer.testing import CliRunner

from benchmarks.gate.planted import planted
from benchmarks.gate.repository import git
from pipeline.cli.main import app
from targets.baselines.lock import accepted, lock_of, read_lock, write_lock
from targets.errors import Refusal


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "student.onnx").write_bytes(b"the first")
    lock = lock_of(folder / "student.onnx", folder / "retort.lock")
    write_lock(lock.model_copy(update={"figures": {"accuracy_percent": [98.0]}}), folder / "retort.lock")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "accept")
    return folder


def test_a_lock_reads_as_it_was_written(repository: Path) -> None:
    lock = read_lock(repository / "retort.lock")
    assert lock.model == "student.onnx" and lock.figures == {"accuracy_percent": [98.0]}
    assert lock.blob == git(repository, "hash-object", "student.onnx")


def test_the_accepted_file_is_found_while_it_lies_there_and_after_it_changed(
    repository: Path, tmp_path: Path
) -> None:
    lock = repository / "retort.lock"
    assert accepted(lock, tmp_path) == repository / "student.onnx"
    (repository / "student.onnx").write_bytes(b"the second")
    git(repository, "commit", "--quiet", "-am", "change")
    found = accepted(lock, tmp_path)
    assert found.parent.parent == tmp_path and found.read_bytes() == b"the first"
    (repository / "student.onnx").unlink()
    assert accepted(lock, tmp_path).read_bytes() == b"the first"


def test_what_is_in_neither_place_is_refused_with_the_mend(repository: Path, tmp_path: Path) -> None:
    shutil.rmtree(repository / ".git")
    (repository / "student.onnx").write_bytes(b"the second")
    with pytest.raises(Refusal, match=r"retort\.lock: the accepted student\.onnx .* fetch-depth: 0"):
        accepted(repository / "retort.lock", tmp_path)


BROKEN: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda raw: raw.pop("sha256"), "sha256: missing, and needed"),
    (lambda raw: raw.update(sha256="--exec=x"), "sha256: String should match"),
    (lambda raw: raw.update(blob="-p"), "blob: String should match"),
    (lambda raw: raw.update(version=2), "version: Input should be 1"),
    (lambda raw: raw.update(more=1), "more: no such key"),
]


@pytest.mark.parametrize(("change", "says"), BROKEN, ids=[says for _, says in BROKEN])
def test_a_broken_lock_is_refused(
    change: Callable[[dict[str, Any]], object], says: str, repository: Path, tmp_path: Path
) -> None:
    path = repository / "retort.lock"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(Refusal, match=rf"retort\.lock: not a lock: {says}"):
        accepted(path, tmp_path)
    path.write_text("{")
    with pytest.raises(Refusal, match="not a lock"):
        accepted(path, tmp_path)
    path.unlink()
    with pytest.raises(Refusal, match="no such file; make it: retort lock"):
        accepted(path, tmp_path)


def test_a_lock_lies_above_its_model(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "student.onnx").write_bytes(b"x")
    (tmp_path / "b").mkdir()
    with pytest.raises(Refusal, match="outside its folder"):
        lock_of(tmp_path / "a" / "student.onnx", tmp_path / "b" / "retort.lock")
    lock = lock_of(tmp_path / "a" / "student.onnx", tmp_path / "retort.lock")
    assert lock.model == "a/student.onnx"
    with pytest.raises(Refusal, match=r"gone\.onnx: No such file"):
        lock_of(tmp_path / "gone.onnx", tmp_path / "retort.lock")


def test_lock_then_gate_then_compare_by_their_commands(
    network: Callable[[str], Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.toml").write_text('about = "quick"\nbackend = "onnxruntime"\nseconds = 4.0\n')
    common = ["--images", str(photos), "--target", "quick.toml"]
    model = network("nchw-float32").rename(tmp_path / "student.onnx")
    git(tmp_path, "init", "--quiet")

    def retort(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*words, *common])
        return done.exit_code, done.output

    status, said = retort("lock", "student.onnx")
    assert status == 0 and "retort.lock: student.onnx, sha256 " in said
    assert set(read_lock(Path("retort.lock")).figures) == {
        "accuracy_percent",
        "p50_vs_reference",
        "size_bytes",
    }
    git(tmp_path, "add", "student.onnx", "retort.lock")
    planted(onnx.load(model), 200, model)
    budgets = ["--budget", "slower_than_baseline=20%", "--budget", "agreement_vs_baseline=60"]
    status, said = retort("gate", "student.onnx", "--baseline", "retort.lock", *budgets)
    assert status == 1 and "candidate breaks slower_than_baseline" in said
    status, said = retort("compare", "retort.lock", "student.onnx")
    assert status == 0
    rows = {line.split("  ")[0].strip(): line for line in said.splitlines()}
    assert "100.00%" in rows["same answers"]
    assert float(rows["latency p50"].split("+")[1].split(" ")[0]) > 20
