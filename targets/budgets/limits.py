"""What the shipped artifact must keep to. A budget that is not given is not judged."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, ValidationError

from targets.errors import Refusal, unknown


def per_cent(value: object) -> object:
    """``"5%"`` as 5."""
    return value.strip().removesuffix("%") if isinstance(value, str) else value


class Budgets(BaseModel):
    """Limits on accuracy (in points of a hundred), latency (ms), size and memory (MB of 10^6 bytes).

    Three kinds of latency: in ms, for a device of one's own; in times the reference network's, timed in the same
    rounds, for machines that change; and against a baseline artifact, in the same rounds too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    accuracy: float | None = Field(None, gt=0, le=100, description="at least this many per cent right")
    drop_vs_teacher: float | None = Field(None, ge=0, le=100, description="points, at most")
    drop_vs_float: float | None = Field(None, ge=0, le=100, description="points, at most")
    worst_class: float | None = Field(None, ge=0, le=100, description="at least this recall in each class")
    p50_ms: PositiveFloat | None = None
    p90_ms: PositiveFloat | None = None
    p99_ms: PositiveFloat | None = None
    p50_vs_reference: PositiveFloat | None = Field(None, description="times the reference network's, at most")
    p99_vs_reference: PositiveFloat | None = Field(None, description="times the reference network's, at most")
    slower_than_baseline: Annotated[float, BeforeValidator(per_cent), Field(gt=-100)] | None = Field(
        None, description="per cent, at most; below 0 asks for a speed-up"
    )
    drop_vs_baseline: float | None = Field(None, ge=0, le=100, description="points, at most")
    agreement_vs_baseline: float | None = Field(None, gt=0, le=100, description="same answers, per cent")
    agreement: float | None = Field(
        None,
        gt=0,
        le=100,
        description="same answers as ONNX Runtime gives here with the same weights, per cent",
    )
    size_mb: PositiveFloat | None = None
    memory_mb: PositiveFloat | None = None

    def over(self, other: Budgets) -> Budgets:
        """These, and what only the other names."""
        mine, theirs = (budgets.model_dump(exclude_none=True) for budgets in (self, other))
        return Budgets(**{**theirs, **mine})


def read_budgets(lines: list[str]) -> Budgets:
    """Budgets from ``NAME=LIMIT`` words. Raises Refusal, with the nearest name."""
    found: dict[str, object] = {}
    for line in lines:
        name, _, limit = line.partition("=")
        if name not in Budgets.model_fields:
            raise unknown("budget", name, Budgets.model_fields, "--budget")
        if name in found:
            raise Refusal(f"--budget {name}: given twice, {found[name]} and {limit}; give it once")
        found[name] = limit
    try:
        return Budgets.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        told = f"--budget {first['loc'][0]}={first['input']}: {first['msg']}"
        raise Refusal(f"{told}; write NAME=NUMBER, such as p99_ms=8 or slower_than_baseline=5%") from None
