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

Answers = NDArray[np.float32]  # (N, ...), of each of the test set's N images; for classification (N, classes)
Method = Literal["", "ptq", "qat"]  # how an int8 network came to its grid: calibrated, or trained on it


@dataclass(frozen=True)
class TestSet:
    """What is true of the test images, and what the reference networks answered; arrays over the same N images.

    ``labels`` are what the task says: for classification the number of the class, (N,).
    """

    __test__ = False  # no test, whatever pytest thinks of its name

    labels: NDArray[Any]
    classes: tuple[str, ...]
    references: dict[str, Answers]  # by name: "teacher", "float"
    task: str = "classification"


@dataclass(frozen=True)
class Measured:
    """What one candidate showed on the device."""

    artifact: Path
    size_bytes: int
    memory_bytes: int | None
    logits: Answers
    blocks: Blocks
    facts: dict[str, Any]  # of the build: operators that run, and how
    network: str = ""
    precision: Precision = "float32"
    method: Method = ""
    no_tails: str = ""  # why only medians are known of its times, where that is so
    unsteady: int = 0  # images that another process, given the same file, answered otherwise
    here: Answers | None = None  # what ONNX Runtime answers on this machine with the same weights


@dataclass(frozen=True)
class Evidence:
    """All that a budget of one candidate may look at."""

    candidate: Measured
    test_set: TestSet
    comparisons: Mapping[str, Measured]  # timed in the same rounds: "baseline", "reference"
    answers: Mapping[str, Answers]  # of those that it is compared with: "teacher", "float", "baseline"
