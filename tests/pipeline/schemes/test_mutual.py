"""Mutual learning of three networks beside a plain restatement, in float64."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the schemes are torch's")

from pipeline.data.batches import Epoch, Pixels, training_batches
from pipeline.data.decoded import TRAIN
from pipeline.recipe.schema import Distill
from pipeline.schemes import build
from pipeline.schemes.base import Setup
from pipeline.training import loop
from support import tiny, toys
from support.restated import divergence, entropy, furthest, set_rate
from support.tiny import one_thread  # noqa: F401  (for every test here)


@pytest.mark.parametrize(("weight", "temperature", "label_weight"), [(1.0, 1.0, 1.0), (0.5, 3.0, 0.2)])
def test_each_learns_from_the_labels_and_from_the_mean_divergence_of_the_others(
    weight: float, temperature: float, label_weight: float, tmp_path: Path
) -> None:
    data = tiny.write_set(tmp_path / "set", classes=tiny.CLASSES)
    line = {"name": "mutual", "peers": ["one", "two"], "weight": weight, "temperature": temperature}
    recipe = Distill.model_validate({"scheme": line, "label_weight": label_weight})
    peers = {"one": toys.classifier(2), "two": toys.classifier(3)}
    student, settings = toys.classifier(1), tiny.training(epochs=1)
    plain = [copy.deepcopy(one).train() for one in (student, *peers.values())]
    scheme = build(Setup(student, student, [], data, recipe, "distill", tmp_path, peers.__getitem__))
    run = loop.Run(scheme, data, settings, tmp_path / "here.pt")
    run.epoch(0, "here")
    steppers = [
        torch.optim.SGD(one.parameters(), momentum=settings.momentum, weight_decay=settings.weight_decay)
        for one in plain
    ]
    batches = list(training_batches(Pixels(data), data.part(TRAIN), settings.batch, settings, Epoch(0, 0, 0)))
    for number, batch in enumerate(batches):
        answers = [one(batch.images)[0] for one in plain]
        total = torch.zeros((), dtype=torch.float64)
        for own in range(3):
            others = [answers[other].detach() / temperature for other in range(3) if other != own]
            apart = sum(divergence(other, answers[own] / temperature) for other in others)
            total = total + label_weight * entropy(answers[own], batch.labels)
            total = total + weight * temperature**2 * apart / 2
        for stepper in steppers:
            set_rate(stepper, settings.lr * (1 + math.cos(math.pi * number / len(batches))) / 2)
            stepper.zero_grad()
        total.backward()
        for stepper in steppers:
            stepper.step()
    for mine, theirs in zip((student, *peers.values()), plain, strict=True):
        assert furthest(mine, theirs) < 1e-6
