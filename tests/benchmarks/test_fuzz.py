"""Some of the changed input of ``make fuzz``, by a fixed seed: each case ends well, or with one clean line."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the workshop needs torch: pip install 'retort[train]'")

from benchmarks.fuzz import corpus
from benchmarks.fuzz.__main__ import SEED
from benchmarks.fuzz.box import Case
from benchmarks.fuzz.outcome import faults
from benchmarks.fuzz.workers import run

CASES = 400


def test_changed_input_ends_well_or_with_one_clean_line(tmp_path: Path) -> None:
    corpus.make(tmp_path / "corpus")
    todo = [(number, False) for number in range(CASES)]
    found = dict(run(todo, SEED, tmp_path / "corpus", tmp_path, 2))
    assert len(found) == CASES and {one.status for one in found.values()} >= {0, 2}
    assert {number: (one.command, one.wrong) for number, one in found.items() if one.wrong} == {}


@pytest.mark.parametrize(
    ("status", "out", "err", "wrong"),
    [
        (0, "done", "", ""),
        (2, "", "retort: a.toml: no\n", ""),
        (3, "report: x", "  on the way\n", ""),
        (70, "", "retort: an error\n", "exit status 70"),
        (2, "", "", "0 lines of error"),
        (2, "", "retort: one\nretort: two\n", "2 lines of error"),
        (2, "", "retort: \x1b[2J\n", "not clean"),
        (1, "", "Traceback (most recent call last):\n", "a traceback"),
        (-11, "", "", "SIGSEGV"),
    ],
)
def test_what_is_wrong_with_an_ending_is_told(status: int, out: str, err: str, wrong: str) -> None:
    told = faults(Case(("gate",)), status, out, err)
    assert wrong in told and bool(told) == bool(wrong)


def test_a_changed_file_that_passes_is_a_finding() -> None:
    assert "passed" in faults(Case(("measure",), sealed=True), 0, "", "")
    assert faults(Case(("measure",), sealed=True), 2, "", "retort: changed\n") == ""
