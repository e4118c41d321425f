"""A file that could ship, and what it showed on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from targets.budgets.evidence import Measured, Method
from targets.runner.backends import Precision


@dataclass(frozen=True)
class Candidate:
    """A file that could ship, and how its runtime is to compute it.

    ``float32`` to the letter; ``native`` in the float that the runtime prefers on that device (bf16, fp16);
    ``int8`` files go through the profile's rewrite.
    """

    name: str
    model: Path
    precision: Precision
    network: str = ""  # whose weights these are: a name of the report's networks
    lite: Path | None = None  # the same tensors as a .tflite, for LiteRT, which takes no ONNX file
    method: Method = ""


@dataclass(frozen=True)
class Measurement:
    """All candidates of one target, and where and how they were measured."""

    target: str
    device: str
    candidates: Mapping[str, Measured]
    environment: dict[str, Any]
    protocol: dict[str, Any]
    simulated: bool = False  # a stand-in for the runtime answered, as in tests
    # Timed in the same rounds, to compare with; they never ship: "baseline", "reference".
    comparisons: Mapping[str, Measured] = field(default_factory=dict)
    untimed: str = ""  # why there are no times, where there are none
    # Of the work without a pause before, if there was any.
    throttling: Mapping[str, Any] = field(default_factory=dict)
