"""evaluate: what the targets will be asked is the test split, and each network's answers are to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the networks are torch's")

from pipeline.artifacts import checkpoint
from pipeline.data.decoded import TEST
from pipeline.engine.job import Job
from pipeline.recipe.schema import Network
from pipeline.stages import evaluate
from pipeline.training import loop
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)


def test_labels_images_and_answers_are_of_the_test_split(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("data", "student", "out", "scratch")}
    for folder in folders.values():
        folder.mkdir()
    data = tiny.write_set(folders["data"])
    begun = checkpoint.begin(Network(network="resnet8"), data.facts, {}, "student")
    checkpoint.save(folders["student"], begun.checkpoint, begun.model)
    parents = {name: folders[name] for name in ("data", "student")}
    evaluate.run(Job({}, parents, {}, folders["out"], folders["scratch"]))
    which = data.part(TEST)
    assert np.array_equal(np.load(folders["out"] / "labels.npy"), data.labels[which])
    assert np.array_equal(np.load(folders["out"] / "images.npy"), data.images[which])
    answers = np.load(folders["out"] / "student.npy")
    np.testing.assert_allclose(answers, loop.predict(begun.model, data, TEST).numpy(), atol=1e-5)
