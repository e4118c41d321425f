"""The GitHub Action as a whole, by a stand-in for the runner: what reaches the gate, its status, who is told what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from support import ROOT
from support.action import Ran, Runner
from targets.errors import FAILED, PASSED, UNDECIDED, WRONG_INPUT

GIVEN = {"model": "net.onnx", "images": "photos", "budgets": "accuracy=90"}


def ran(folder: Path, pull: str = "", case: dict[str, Any] | None = None, **inputs: str) -> Ran:
    return Runner(folder, {**GIVEN, **inputs}, pull, case or {}).run()


def gate(found: Ran) -> list[str]:
    """What ``retort`` was told."""
    (words,) = (words[2:] for words in found.told if words[0] == "retort")
    return words


def budgets(*words: str) -> list[str]:
    return [part for word in words for part in ("--budget", word)]


HEAD = ["gate", "--images", "photos", "--target", "cpu", "--out", "retort-report"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, [*HEAD, *budgets("accuracy=90"), "--", "net.onnx"]),
        (
            {"budgets": "accuracy=90 size_mb=1\n  p99_ms=8\n\nslower_than_baseline=5%\n"},
            [
                *HEAD,
                *budgets("accuracy=90", "size_mb=1", "p99_ms=8", "slower_than_baseline=5%"),
                "--",
                "net.onnx",
            ],
        ),
        (
            {"budgets": "$(touch x) `touch x` *"},
            [*HEAD, *budgets("$(touch", "x)", "`touch", "x`", "*"), "--", "net.onnx"],
        ),
        ({"budgets": ""}, [*HEAD, "--", "net.onnx"]),
        ({"model": "--help"}, [*HEAD, *budgets("accuracy=90"), "--", "--help"]),
        ({"model": "a $(touch x) net.onnx"}, [*HEAD, *budgets("accuracy=90"), "--", "a $(touch x) net.onnx"]),
        (
            {"baseline": "old net.onnx"},
            [*HEAD, *budgets("accuracy=90"), "--baseline", "old net.onnx", "--", "net.onnx"],
        ),
        (
            {"images": "--help", "target": "my board.toml", "name": "second.gate"},
            [
                *("gate", "--images", "--help", "--target", "my board.toml", "--out", "second.gate"),
                *budgets("accuracy=90"),
                *("--", "net.onnx"),
            ],
        ),
    ],
)
def test_what_is_given_reaches_the_gate_and_nothing_else_runs(
    inputs: dict[str, str], words: list[str], tmp_path: Path
) -> None:
    found = ran(tmp_path, **inputs)
    assert gate(found) == words and found.status == PASSED
    assert {path.name for path in (tmp_path / "workspace").iterdir()} == {words[6]}
    name = inputs.get("name", "retort-report")
    setup, upload = found.used
    assert setup[0].startswith("actions/setup-python@") and upload[0].startswith("actions/upload-artifact@")
    assert (upload[1]["name"], upload[1]["path"]) == (name, name)


def test_the_repository_s_lock_is_the_baseline_where_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "retort.lock").touch()
    assert gate(ran(tmp_path))[-4:] == ["--baseline", "retort.lock", "--", "net.onnx"]


def test_it_is_installed_from_its_own_folder_by_hashes(tmp_path: Path) -> None:
    first, second = [words for words in ran(tmp_path).told if words[0] == "python"]
    assert first[1] == second[1] == str(ROOT), "not where a pip.py of the repository lies"
    assert first[2:5] == second[2:5] == ["-P", "-m", "pip"]
    assert "--require-hashes" in first and second[-3:] == ["--no-deps", "--no-build-isolation", "."]


@pytest.mark.parametrize("summary", ["verdict", None])
@pytest.mark.parametrize("status", [PASSED, FAILED, WRONG_INPUT, UNDECIDED, 70])
def test_the_verdict_is_the_step_s_status_and_summary(
    status: int, summary: str | None, tmp_path: Path
) -> None:
    (tmp_path / "workspace" / "retort-report").mkdir(parents=True)
    (tmp_path / "workspace" / "retort-report" / "summary.md").write_text(
        "of the repository's own, @everybody"
    )
    found = ran(tmp_path, "12", {"status": status, "summary": summary}, comment="true")
    assert (found.status, found.summary) == (status, summary or "")
    assert len(found.used) == 2, "the report is kept, whatever the status"
    assert any(words[0] == "gh" for words in found.told) == (summary is not None)


@pytest.mark.parametrize("name", ["../x", "a b", "", "-x", ".x", "a/b", 'a" or true', "a\nb"])
def test_a_name_that_is_no_folder_s_is_refused(name: str, tmp_path: Path) -> None:
    found = ran(tmp_path, name=name)
    assert found.status == WRONG_INPUT and not any(words[0] == "retort" for words in found.told)


@pytest.mark.parametrize(
    ("pull", "comment", "comments", "calls"),
    [
        ("12", "false", [], []),
        ("", "true", [], []),
        ("12", "true", [], ["list", "repos/someone/nets/issues/12/comments"]),
        ("12", "true", ["77", "78"], ["list", "repos/someone/nets/issues/comments/77"]),
    ],
)
def test_its_own_comment_is_written_anew_and_no_other(
    pull: str, comment: str, comments: list[str], calls: list[str], tmp_path: Path
) -> None:
    found = ran(tmp_path, pull, {"comments": comments}, comment=comment, name="size")
    told = [words[2:] for words in found.told if words[0] == "gh"]
    assert len(told) == len(calls) and found.status == PASSED
    if calls:
        asked, wrote = told
        assert asked[:3] == ["api", "--paginate", "repos/someone/nets/issues/12/comments"]
        assert 'startswith("<!-- retort gate: size -->")' in asked[-1] and '.user.type == "Bot"' in asked[-1]
        assert calls[1] in wrote and ("PATCH" in wrote) == bool(comments)
        assert f"body=@{tmp_path}/temp/comment.md" in wrote
        assert (tmp_path / "temp" / "comment.md").read_text() == "<!-- retort gate: size -->\nverdict"


def test_a_comment_that_cannot_be_written_is_no_failed_budget(tmp_path: Path) -> None:
    found = ran(tmp_path, "12", {"gh": 1}, comment="true")
    assert found.status == PASSED and "::warning::the verdict could not be told" in found.said


def test_the_gate_itself_judges_by_every_line(
    network: Callable[[str], Path], photos: Path, tmp_path: Path
) -> None:
    """Retort's own gate in place of its stand-in: the first line is kept to, the last one is broken."""
    (tmp_path / "workspace").mkdir()
    onnx.save(onnx.load(network("nchw-float32")), tmp_path / "workspace" / "net.onnx")
    profile = 'about = ""\nbackend = "onnxruntime"\nseconds = 0.25\n'
    (tmp_path / "workspace" / "quick.toml").write_text(profile)
    lines = "memory_mb=9000\nsize_mb=0.0001\n"
    inputs = {**GIVEN, "images": str(photos), "target": "quick.toml", "budgets": lines}
    found = Runner(tmp_path, inputs, programs=("python", "gh")).run()
    assert found.status == FAILED, found.said
    assert "size_mb" in found.summary.replace("\\", "") and "memory_mb" in found.summary.replace("\\", "")
