"""Proving a bundle: the recipe's goals are judged with the budgets, and a stand-in's answers prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.verdicts import measured
from targets.budgets.line import Outcome
from targets.bundle import prove as proving
from targets.bundle.bundle import Bundle
from targets.bundle.prove import goal_lines, prove
from targets.measuring.candidate import Measurement


@pytest.mark.parametrize(
    ("reached", "outcome"), [(0.4, Outcome.PASS), (0.5, Outcome.PASS), (0.6, Outcome.FAIL)]
)
@pytest.mark.parametrize("goal", ["macs", "latency"])
def test_a_goal_is_kept_by_a_network_that_is_no_larger(goal: str, reached: float, outcome: Outcome) -> None:
    cut = {"goal": goal, "share": 0.5, "reached": reached, "met": True}
    (line,) = goal_lines({"made_by": [{"name": "student"}, {"name": "pruned", "cut": cut}]})
    assert (line.budget, line.limit, line.outcome) == (f"pruned_{goal}", 0.5, outcome)


@pytest.mark.parametrize("simulated", [False, True])
def test_a_stand_in_s_answers_are_compared_with_no_other_target_s(
    simulated: bool, make: Callable[[], Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make()
    found = measured(bundle.test_set.references["teacher"])
    taken = Measurement("here", "local", {"float": found}, {}, {}, simulated)
    monkeypatch.setattr(proving, "measure", lambda *_: taken)
    assert list(prove(bundle, "local", tmp_path / "out").answers) == ([] if simulated else ["float"])
