"""What a budget is judged by: what a candidate showed, what was timed beside it, and the test set.

``Evidence`` holds all that a budget may look at. A budget takes from it what it needs; what it needs and does not
find is NOT MEASURED.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from targets.runner.backends import Precision
from targets.stats.intervals import Blocks

Logits = NDArray[np.float32]  # (N, classes), over the test set's N images
Method = Literal["", "ptq", "qat"]  # how an int8 network came to its grid: calibrated, or trained on it


@dataclass(frozen=True)
class TestSet:
    """The test images' labels, and what the reference networks answered; arrays over the same N images."""

    __test__ = False  # no test, whatever pytest thinks of its name

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    references: dict[str, Logits]  # by name: "teacher", "float"


@dataclass(frozen=True)
class Measured:
    """What one candidate showed on the device."""

    artifact: Path
    size_bytes: int
    memory_bytes: int | None
    logits: Logits
    blocks: Blocks
    facts: dict[str, Any]  # of the build: operators that run, and how
    network: str = ""
    precision: Precision = "float32"
    method: Method = ""
    no_tails: str = ""  # why only medians are known of its times, where that is so
    unsteady: int = 0  # images that another process, given the same file, answered otherwise
    here: Logits | None = None  # what ONNX Runtime answers on this machine with the same weights


@dataclass(frozen=True)
class Evidence:
    """All that a budget of one candidate may look at."""

    candidate: Measured
    test_set: TestSet
    comparisons: Mapping[str, Measured]  # timed in the same rounds: "baseline", "reference"
    answers: Mapping[str, Logits]  # of those that it is compared with: "teacher", "float", "baseline"
