"""All that a run leaves lying about is in one folder: it goes with the run, or with the next one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from pipeline.cli.run_folder import PREFIX, RunFolder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_is_temporary_lies_in_it_and_goes_with_it(place: Path) -> None:
    run = RunFolder()
    made = Path(tempfile.mkdtemp())
    assert made.parent == run.path == Path(os.environ["TMPDIR"]) and run.path.parent == place
    run.remove()
    assert list(place.iterdir()) == [] and tempfile.gettempdir() == os.environ["TMPDIR"] == str(place)


def test_the_next_run_removes_a_killed_one_s_and_no_other(place: Path) -> None:
    (place / f"{PREFIX}killed" / "images").mkdir(parents=True)
    (place / "theirs").mkdir()
    (place / f"{PREFIX}link").symlink_to(place / "theirs")
    first = RunFolder()
    assert not (place / f"{PREFIX}killed").exists() and (place / "theirs").exists()
    before = tempfile.tempdir
    tempfile.tempdir = str(place)
    second = RunFolder()
    assert first.path.exists(), "it still runs"
    second.remove()
    tempfile.tempdir = before
    first.remove()
