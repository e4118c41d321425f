"""The table of all budgets, and the limits that a recipe, a profile or a command sets on them.

``BUDGETS`` holds a row for each budget; to add one is to add its row where its evidence is understood:
``targets.budgets.latency``, ``targets.budgets.cost`` or a task's file. A budget without a limit is not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import ConfigDict, Field, RootModel, TypeAdapter, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from targets.budgets.budget import Bounds, Budget, Kind
from targets.budgets.cost import COST
from targets.budgets.latency import LATENCY, QUANTILES
from targets.errors import Refusal, explain, nearest, unknown
from targets.tasks import TASKS, task_of
from targets.tasks.answers import ANSWERS

OWN = tuple(row for task in TASKS.values() for row in task.budgets)
BUDGETS: dict[str, Budget] = {row.name: row for row in (*OWN, *ANSWERS, *LATENCY, *COST)}
OWNERS = {row.name: task.name for task in TASKS.values() for row in task.budgets}


class Budgets(RootModel[dict[str, float]]):
    """Limits by the names of their budgets, each in its budget's unit; in the table's order, whatever the file's."""

    model_config = ConfigDict(frozen=True)

    root: dict[str, float] = {}

    @model_validator(mode="before")
    @classmethod
    def _known_and_sensible(cls, given: object) -> object:
        return checked(given) if isinstance(given, Mapping) else given

    def rows(self, *kinds: Kind) -> list[tuple[Budget, float]]:
        """The rows that are to be judged, and their limits; only those of some kinds where these are named."""
        pairs = [(BUDGETS[name], limit) for name, limit in self.root.items()]
        return [(row, limit) for row, limit in pairs if not kinds or row.kind in kinds]

    def over(self, other: Budgets) -> Budgets:
        """These, and what only the other names."""
        both = {**other.root, **self.root}
        # Not checked again: a limit of one may lie above another's of the other, which then decides.
        return Budgets.model_construct(root={name: both[name] for name in BUDGETS if name in both})


def checked(given: Mapping[str, Any]) -> dict[str, float]:
    """Limits by name, without those that are None. Raises ValidationError with every name or limit that is wrong."""
    wrong: list[InitErrorDetails] = []
    limits = {}
    for name, limit in given.items():
        if name not in BUDGETS:
            hint = nearest(str(name), BUDGETS)
            fault = PydanticCustomError("no_budget", "no such key; {hint}", {"hint": hint})
            wrong.append({"type": fault, "loc": (name,), "input": limit})
        elif limit is not None:
            try:
                limits[name] = number(BUDGETS[name], limit)
            except ValidationError as error:
                (first,) = error.errors()
                wrong.append(
                    {"type": first["type"], "loc": (name,), "input": limit, "ctx": first.get("ctx", {})}
                )
    for name, limit in limits.items():
        for tail in tails(name):
            if limits.get(tail, limit) < limit:
                above = {"above": f"{tail} = {limits[tail]:g}"}
                fault = PydanticCustomError(
                    "above_tail", "it is above {above}, which more calls keep to", above
                )
                wrong.append({"type": fault, "loc": (name,), "input": limit})
    if wrong:
        raise ValidationError.from_exception_data("Budgets", wrong)
    return {name: limits[name] for name in BUDGETS if name in limits}


def check_task(name: str, budgets: Budgets) -> None:
    """Raises Refusal for a task that there is not, and for budgets of another task."""
    task_of(name, "data.task")
    for budget in budgets.root:
        if OWNERS.get(budget, name) != name:
            raise Refusal(f"budgets.{budget}: it is of {OWNERS[budget]}; these images are for {name}")


def tails(name: str) -> list[str]:
    """The budgets of the same latency at higher quantiles: of p50_ms these are p90_ms and p99_ms."""
    quantile, _, what = name.partition("_")
    after = list(QUANTILES)[list(QUANTILES).index(quantile) + 1 :] if quantile in QUANTILES else []
    return [f"{one}_{what}" for one in after]


def number(row: Budget, limit: object) -> float:
    """A limit as a number within the row's bounds; ``"5%"`` is 5 where the unit is per cent."""
    if row.unit == "%" and isinstance(limit, str):
        limit = limit.strip().removesuffix("%")
    return within(row.bounds).validate_python(limit)


@cache
def within(bounds: Bounds) -> TypeAdapter[float]:
    return TypeAdapter(Annotated[float, Field(gt=bounds.gt, ge=bounds.ge, le=bounds.le, allow_inf_nan=False)])


def read_budgets(lines: list[str]) -> Budgets:
    """Budgets from ``NAME=LIMIT`` words. Raises Refusal, with the nearest name."""
    found: dict[str, object] = {}
    for line in lines:
        name, _, limit = line.partition("=")
        if name not in BUDGETS:
            raise unknown("budget", name, BUDGETS, "--budget")
        if name in found:
            raise Refusal(f"--budget {name}: given twice, {found[name]} and {limit}; give it once")
        found[name] = limit
    try:
        return Budgets.model_validate(found)
    except ValidationError as error:
        told = f"--budget {explain(error, Budgets)}"
        raise Refusal(f"{told}; write NAME=NUMBER, such as p99_ms=8 or slower_than_baseline=5%") from None
