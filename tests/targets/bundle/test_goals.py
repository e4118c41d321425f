"""The recipe's goals for a cut network are judged with the budgets."""

from __future__ import annotations

import pytest

from targets.budgets.line import Outcome
from targets.bundle.prove import goal_lines


@pytest.mark.parametrize(
    ("reached", "outcome"), [(0.4, Outcome.PASS), (0.5, Outcome.PASS), (0.6, Outcome.FAIL)]
)
@pytest.mark.parametrize("goal", ["macs", "latency"])
def test_a_goal_is_kept_by_a_network_that_is_no_larger(goal: str, reached: float, outcome: Outcome) -> None:
    cut = {"goal": goal, "share": 0.5, "reached": reached, "met": True}
    (line,) = goal_lines({"made_by": [{"name": "student"}, {"name": "pruned", "cut": cut}]})
    assert (line.budget, line.limit, line.outcome) == (f"pruned_{goal}", 0.5, outcome)
