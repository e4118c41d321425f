"""The table of budgets: which limits are taken, and that a row is all that a new budget needs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from pipeline.recipe.read import read_recipe
from support.verdicts import CLASSES, LABELS, answers, measured
from targets.budgets.budget import Bounds, Budget, Found
from targets.budgets.cost import COST
from targets.budgets.evidence import Evidence, TestSet
from targets.budgets.latency import LATENCY
from targets.errors import Refusal
from targets.limits import BUDGETS, Budgets, read_budgets
from targets.measuring.candidate import Measurement
from targets.report.render import junit, summary
from targets.report.table import compose, target_table
from targets.report.terminal import amount
from targets.spec.profile import Profile
from targets.stats.intervals import Estimate
from targets.tasks import TASKS
from targets.tasks.answers import ANSWERS
from targets.verdict import judge, settled, unmeasured

RECIPE = 'version = 1\ndata = "digits"\nteacher = "resnet20"\nstudent = "resnet8"\nbudgets = { %s }\n'


def test_no_two_rows_have_one_name() -> None:
    own = sum(len(task.budgets) for task in TASKS.values())
    assert len(BUDGETS) == own + len(ANSWERS) + len(LATENCY) + len(COST)


@pytest.mark.parametrize("name", BUDGETS)
def test_a_limit_lies_within_its_row_s_bounds(name: str) -> None:
    row = BUDGETS[name]
    ends = [(row.bounds.gt, -1e-9, 1e-9), (row.bounds.ge, -1e-9, 0.0), (row.bounds.le, 1e-9, 0.0)]
    for end, outside, inside in ends:
        if end is not None:
            assert Budgets({name: end + inside}).root == {name: end + inside}
            with pytest.raises(ValidationError, match=name):
                Budgets({name: end + outside})
    for limit in (math.inf, -math.inf, math.nan, "inf", "nan", "fast", [1], "1 %%"):
        with pytest.raises(ValidationError, match=name):
            Budgets.model_validate({name: limit})


@pytest.mark.parametrize("name", BUDGETS)
def test_a_limit_in_per_cent_may_say_so_and_no_other(name: str) -> None:
    if BUDGETS[name].unit == "%":
        assert Budgets.model_validate({name: " 5% "}).root == {name: 5.0}
    else:
        with pytest.raises(ValidationError, match=name):
            Budgets.model_validate({name: "5%"})
    assert Budgets.model_validate({name: "5"}) == Budgets({name: 5.0})


def test_budgets_stay_as_they_were_read_and_go_through_json() -> None:
    class Section(BaseModel):
        budgets: Budgets

    given = {"size_mb": 2, "p99_ms": "8", "accuracy": None, "drop_vs_float": 1}
    read = Section.model_validate({"budgets": given})
    assert list(read.budgets.root.items()) == [("drop_vs_float", 1.0), ("p99_ms", 8.0), ("size_mb", 2.0)]
    assert Section.model_validate_json(read.model_dump_json()) == read
    with pytest.raises(ValidationError, match="frozen"):
        read.budgets.root = {}
    assert read.budgets.over(Budgets({"p99_ms": 9, "accuracy": 90})) == Budgets(
        {"accuracy": 90, "drop_vs_float": 1, "p99_ms": 8, "size_mb": 2}
    )
    with pytest.raises(ValidationError) as wrong:
        Section.model_validate({"budgets": {"p99": 3, "accuracy": 101, 4: 4}})
    places = [error["loc"] for error in wrong.value.errors()]
    assert places == [("budgets", "p99"), ("budgets", "accuracy"), ("budgets", 4)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["p99=3"], "--budget: no budget named 'p99'; did you mean 'p99_ms'"),
        (["p99_ms=3", "p99_ms=4"], "--budget p99_ms: given twice, 3 and 4"),
        (["p99_ms=-3"], r"--budget p99_ms: .*greater than 0 \(got '-3'\); write NAME=NUMBER"),
        (["p99_ms=3", "p50_ms=4"], "--budget p50_ms: it is above p99_ms = 3, which more calls keep to"),
        (["p99_vs_reference=3", "p50_vs_reference=4"], "p50_vs_reference: it is above p99_vs_reference = 3"),
        (["p99_ms"], "--budget p99_ms: .*write NAME=NUMBER"),
    ],
)
def test_words_that_are_no_budgets_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(Refusal, match=said):
        read_budgets(words)


def test_a_limit_over_another_s_need_not_lie_below_its_tail() -> None:
    """A profile's p99_ms = 5 stays where a command says p50_ms = 8: the stricter one decides."""
    both = read_budgets(["p50_ms=8", "p99_vs_reference=3"]).over(Budgets({"p99_ms": 5, "accuracy": 9}))
    assert both.root == {"accuracy": 9, "p50_ms": 8, "p99_ms": 5, "p99_vs_reference": 3}
    assert list(both.root) == [name for name in BUDGETS if name in both.root]


def spread(evidence: Evidence) -> Found:
    """A quantity that no part of Retort knows: the file's bytes for each class."""
    value = evidence.candidate.size_bytes / len(evidence.test_set.classes)
    return Found(Estimate(value, value - 1, value + 1), f"{len(evidence.comparisons)} beside it")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Budget:
    row = Budget("toy", "bytes", "at_least", "bytes for each class", Bounds(gt=5), "latency", spread)
    monkeypatch.setitem(BUDGETS, "toy", row)
    return row


# Of a file of 400,000 bytes for four classes, within a byte.
@pytest.mark.parametrize(("limit", "said"), [(99_000, "PASS"), (100_000, "INCONCLUSIVE"), (2e5, "FAIL")])
def test_a_row_is_all_that_a_new_budget_needs(toy: Budget, limit: float, said: str, tmp_path: Path) -> None:
    """From the text of a recipe to the report's line, its sign, unit and meaning included."""
    (tmp_path / "recipe.toml").write_text(RECIPE % f"toy = {limit}, size_mb = 1")
    budgets = read_recipe(str(tmp_path / "recipe.toml"))[0].budgets
    assert Budgets.model_validate_json(budgets.model_dump_json()) == budgets == Budgets(toy=limit, size_mb=1)
    test_set, found = TestSet(LABELS, CLASSES, {}), {"int8": measured(answers([]))}
    measurement = Measurement("board", "local", found, {}, {}, comparisons={"other": measured(answers([]))})
    verdict = judge(measurement, budgets, test_set)
    assert settled(verdict) is (said != "INCONCLUSIVE"), "its kind says that more timing can change it"
    profile = Profile(name="board", about="a board", backend="onnxruntime")
    table = compose("recipe", test_set, [], [target_table(profile, "local", verdict, test_set, measurement)])
    shown: dict[str, Any] = json.loads(json.dumps(table))["targets"][0]["lines"][0]
    estimate = {"value": 100_000, "low": 99_999, "high": 100_001}
    assert shown == {
        "budget": "toy",
        "limit": limit,
        "unit": "bytes",
        "outcome": said,
        "estimate": estimate,
        "note": "1 beside it",
        "direction": "at_least",
        "meaning": "bytes for each class",
    }
    assert amount(shown) == f"100,000 bytes [99,999, 100,001], budget {limit:g} (1 beside it)"
    assert f"| `toy` | **{said}** | ≥ {limit:,g} |" in summary(table) and 'name="toy"' in junit(table)


def test_a_new_budget_is_named_by_a_profile_and_told_when_nothing_was_measured(
    toy: Budget, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match=r"budgets\.toy"):
        Profile(name="board", about="", backend="onnxruntime", budgets={"toy": 5})
    budgets = Profile(name="board", about="", backend="onnxruntime", budgets={"toy": "6"}).budgets
    (line,) = unmeasured(budgets.over(read_budgets(["toy=7"])), "no board").lines
    assert (line.budget, line.limit, line.note, line.meaning) == ("toy", 6.0, "no board", toy.meaning)
    with pytest.raises(Refusal, match="no budget named 'tay'; did you mean 'toy'"):
        read_budgets(["tay=7"])
