"""The list of faults that ``make mutants`` plants: each has its place, can be planted, and every room has one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

pytest.importorskip("typer")

from benchmarks.mutants.planted import Mutant, mutants
from benchmarks.mutants.trial import Trial
from support import ROOT
from support.house import ROOMS
from targets.errors import Refusal

PLANTED = mutants()


@pytest.mark.parametrize("one", PLANTED.values(), ids=PLANTED)
def test_a_fault_has_its_place_and_changes_the_code(one: Mutant) -> None:
    assert ast.dump(ast.parse(one.planted)) != ast.dump(ast.parse(one.source))
    assert one.wrong and one.tests
    for test in one.tests:
        file, _, name = test.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not name or f"def {name.partition('[')[0]}(" in text, f"{file} has no {name}"


def test_a_fault_without_its_place_is_refused_by_its_name() -> None:
    with pytest.raises(Refusal, match=r"mutant lost: 'no such text' occurs 0 times"):
        _ = Mutant("lost", "targets/errors.py", "no such text", "", "", ()).planted


def test_there_are_many_in_every_room_and_few_that_no_test_can_tell() -> None:
    assert len(PLANTED) >= 60
    rooms = {one.file.removesuffix(".py").replace("/", ".") for one in PLANTED.values()}
    assert {room for room in ROOMS if not any(f"{one}.".startswith(f"{room}.") for one in rooms)} == set()
    assert sum(bool(one.equivalent) for one in PLANTED.values()) <= 5


def test_a_trial_tells_what_its_tests_see(tmp_path: Path) -> None:
    test = ("tests/pipeline/test_options.py::test_a_full_disk_is_no_wrong_input",)
    file, old = "targets/errors.py", "if wrong else UNDECIDED"
    seen = Mutant("seen", file, old, "", "", test)
    unseen = Mutant("unseen", "targets/progress.py", "LOG_EVERY_S = 10.0", "LOG_EVERY_S = 11.0", "", test)
    with Trial(tmp_path) as trial:
        assert [trial.of(one)[0] for one in (seen, unseen)] == ["killed", "survived"]
        assert (trial.place / file).read_text() == (ROOT / file).read_text()
        with pytest.raises(Refusal, match="mutant torn: no test has judged it"):
            trial.of(Mutant("torn", file, "class Refusal(Exception):", "class Other(Exception):", "", test))
