"""A file that could ship, and what it showed on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from targets.runner.backends import Precision

Blocks = list[list[list[float]]]  # processes, blocks, seconds
Method = Literal["", "ptq", "qat"]  # how an int8 network came to its grid: calibrated, or trained on it


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
class Measured:
    """What one candidate showed on the device."""

    artifact: Path
    size_bytes: int
    memory_bytes: int | None
    logits: NDArray[np.float32]  # (N, classes)
    blocks: Blocks
    facts: dict[str, Any]  # of the build: operators that run, and how
    network: str = ""
    precision: Precision = "float32"
    method: Method = ""
    no_tails: str = ""  # why only medians are known of its times, where that is so
    here: NDArray[np.float32] | None = None  # what ONNX Runtime answers on this machine with the same weights


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
    beside: Mapping[str, Measured] = field(default_factory=dict)
    untimed: str = ""  # why there are no times, where there are none
    # Of the work without a pause before, if there was any.
    heat: Mapping[str, Any] = field(default_factory=dict)
