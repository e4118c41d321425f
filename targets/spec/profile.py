"""A target is a profile: one TOML file. A user adds a board by writing one more and naming it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from targets.errors import Refusal, check_integers, explain, unknown
from targets.limits import Budgets
from targets.regular_file import read_toml
from targets.runner.backends import BACKENDS, backend
from targets.spec.contract import Layout

BUILT_IN = Path(__file__).with_name("profiles")
GROUPS = {"android": ("android-litert", "android-ort")}


def spell(value: object) -> object:
    """``"10m"`` as 600 seconds; also s and h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", value) if isinstance(value, str) else None
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else value


def known_backend(name: str) -> str:
    if name not in BACKENDS:
        raise ValueError(str(unknown("backend", name, BACKENDS, "backend")))
    return name


class Profile(BaseModel):
    """How to build for a target and how to measure there."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(
        pattern=r"^[^/\\\x00.][^/\\\x00]*$", description="also that of its folder in the report"
    )
    about: str
    backend: Annotated[str, AfterValidator(known_backend)]
    format: Literal["onnx", "ort", "tflite"] = Field("onnx", description="of the file that ships")
    remote: bool = Field(False, description="the device is another machine than the one that builds")
    stand_in: bool = Field(False, description="without a device, this machine answers in its place, untimed")
    tensorrt: Literal["10.3", "11"] = "10.3"
    engine_cache: bool = Field(False, description="keep built engines on the device, for the next time")
    rewrite: Literal["none", "u8", "s8", "auto"] = "auto"
    layout: Layout = "nchw-float32"
    tool: Path | None = Field(None, description="what times on a phone behind adb: its runtime's own program")
    opset: int = Field(20, ge=18, le=23)
    channel_multiple: int = Field(16, ge=1)
    threads: int = Field(1, ge=1)
    batch: int = Field(1, ge=1)
    seconds: float = Field(40.0, gt=0, description="timed rounds at most, if the answer stays open")
    sustained: Annotated[float, BeforeValidator(spell), Field(ge=0)] = Field(
        0.0, description="seconds of work without a pause before anything is judged; write 10m"
    )
    patience: int = Field(
        900, ge=1, description="seconds that an answer or a build may take before it is ended"
    )
    budgets: Budgets = Budgets()

    @model_validator(mode="before")
    @classmethod
    def _settings(cls, value: object) -> object:
        return check_integers(value)

    @model_validator(mode="after")
    def _format_of_the_backend(self) -> Profile:
        if self.format not in backend(self.backend).files:
            raise ValueError(f"{self.backend} takes no .{self.format}")
        return self


def profiles() -> dict[str, Path]:
    return {path.stem: path for path in sorted(BUILT_IN.glob("*.toml"), key=lambda path: path.stem)}


def settings(path: Path) -> dict[str, Any]:
    """A profile's table; ``extends = "rpi5"`` starts from one that ships and changes what it names."""
    own = read_toml(path)
    if isinstance(own.get("tool"), str):
        own["tool"] = str(path.parent / own["tool"])
    base = own.pop("extends", None)
    if base is None:
        return own
    if not isinstance(base, str) or base not in profiles() or base == path.stem:
        raise unknown("target", str(base), profiles(), f"TARGET: {path}: extends")
    return {**settings(profiles()[base]), **own}


def targets_of(names: str) -> list[Profile]:
    """``cpu,jetson``; ``android`` is two, and ``all`` are those that ship."""
    groups = {**GROUPS, "all": tuple(profiles())}
    each = [one for name in names.split(",") for one in groups.get(name, (name,))]
    return [read_profile(name) for name in dict.fromkeys(each)]


def read_profile(name: str) -> Profile:
    """A built-in target by name, or a user's file by path."""
    if name in GROUPS:
        raise Refusal(f"TARGET: {name} is {' and '.join(GROUPS[name])}; here one of them is wanted")
    path = Path(name) if name.endswith(".toml") else profiles().get(name)
    if path is None:
        raise unknown("target", name, {**profiles(), **GROUPS}, "TARGET")
    try:
        return Profile.model_validate({**settings(path), "name": path.stem})
    except OSError as error:
        raise Refusal(f"TARGET: {path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise Refusal(f"TARGET: {path}: {explain(error, Profile)}") from None
    except ValueError as error:
        raise Refusal(f"TARGET: {path}: not valid TOML: {error}") from None
