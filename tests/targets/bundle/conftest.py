"""A small bundle, for the tests of what is written, read and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from targets.budgets.evidence import TestSet
from targets.bundle.bundle import Bundle
from targets.limits import Budgets
from targets.measuring.candidate import Candidate
from targets.spec.contract import Contract
from targets.spec.profile import Profile

SIDE, CLASSES = 8, tuple("abcde")
CONTRACT = Contract("nchw-float32", (SIDE, SIDE), CLASSES)
HERE: dict[str, Any] = {"name": "here", "about": "a test", "backend": "onnxruntime", "rewrite": "none"}
STAGE = {"key": "teach-1", "stage": "teach", "seconds": 1.0, "settings": {}, "parents": {}}


def answers(model: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"images": CONTRACT.prepare(images)})[0])


@pytest.fixture
def make(
    small_network: Callable[[str], Path], small_images: NDArray[np.uint8], tmp_path: Path
) -> Callable[..., Bundle]:
    """A bundle of one network under two names, all of whose answers are right."""

    def made(**profile: Any) -> Bundle:
        model = small_network("nchw-float32")
        np.save(tmp_path / "questions.npy", small_images)
        logits = answers(model, small_images)
        share = {"value": 0.5, "low": 0.25, "high": 0.75}
        table = {"macs": 10, "parameters": 7, "accuracy": share}
        recall = [share] * len(np.unique(logits.argmax(1)))
        networks = [{"name": name, **table, "recall": recall} for name in ("teacher", "student")]
        return Bundle(
            recipe="mine.toml",
            profile=Profile(**{**HERE, "seconds": 0.25, **profile}),
            budgets=Budgets(accuracy=1, drop_vs_teacher=1, drop_vs_float=1),
            contract=CONTRACT,
            candidates=[
                Candidate("float", model, "float32", "student"),
                Candidate("int8", model, "int8", "student"),
            ],
            images=tmp_path / "questions.npy",
            test_set=TestSet(logits.argmax(1), CLASSES, {"teacher": logits}),
            networks=networks,
            notes={"made_by": [], "lineage": [STAGE]},
        )

    return made
