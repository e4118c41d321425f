"""What a runner writes, checked before it is believed: a device is another machine, and may send anything."""

from __future__ import annotations

import json
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from targets.errors import explain

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Block = Annotated[list[Seconds], Field(min_length=1)]


class Checked(BaseModel):
    """Exactly these types; what else stands there is passed on as it is."""

    model_config = ConfigDict(strict=True, extra="allow")


class Processor(Checked):
    model: str
    features: list[str]


class Environment(Checked):
    cpu: Processor
    emulated: bool | None = None
    load: float | None = None
    celsius: list[float] | None = None


class Result(Checked):
    """What every result has."""

    time: str
    before: Environment
    after: Environment


class Facts(Checked):
    """Of an engine, as far as its runtime tells."""

    operators: dict[str, int] = {}
    int8_operators: int = 0
    float_operators: list[str] = []
    simulated: bool = False


class Built(Result):
    facts: Facts


class Answered(Result):
    memory_bytes: int | None


class Timed(Result):
    """For each engine equally many blocks, and in each of its blocks equally many calls."""

    blocks: dict[str, Annotated[list[Block], Field(min_length=1)]]
    timer: dict[str, float | str]


class Window(Checked):
    at: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    median: dict[str, Seconds]
    state: dict[str, float]


class Sustained(Result):
    windows: Annotated[list[Window], Field(min_length=1)]


class Vendor(Result):
    vendor: dict[str, Any]


RESULTS: dict[str, type[Result]] = {
    "build": Built,
    "answer": Answered,
    "time": Timed,
    "sustain": Sustained,
    "vendor": Vendor,
}


def read_result(data: bytes, job: dict[str, Any]) -> dict[str, Any]:
    """The result of a job, or ``{"missing": why}``. Raises ValueError for what is none."""
    try:
        result = json.loads(data, parse_constant=no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(result, dict):
        raise ValueError("it is no table")
    if isinstance(result.get("missing"), str):
        return result
    kind = RESULTS.get(job["do"], Result)
    try:
        read = kind.model_validate(result)
    except ValidationError as error:
        raise ValueError(explain(error, kind)) from None
    if isinstance(read, Timed):
        check_blocks(read.blocks, set(job["engines"]))
    if isinstance(read, Sustained) and any(set(one.median) != set(job["engines"]) for one in read.windows):
        raise ValueError("windows: not of the engines that were timed")
    return result


def check_blocks(blocks: dict[str, list[list[float]]], engines: set[str]) -> None:
    if set(blocks) != engines:
        raise ValueError("blocks: not of the engines that were timed")
    if len({len(mine) for mine in blocks.values()}) > 1:
        raise ValueError("blocks: an engine has more of them than another")
    if any(len({len(block) for block in mine}) > 1 for mine in blocks.values()):
        raise ValueError("blocks: one is longer than another")


def no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
