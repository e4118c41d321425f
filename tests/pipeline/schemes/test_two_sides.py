"""Schemes with a second player that works against the student, or for it, beside plain restatements in float64."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the schemes are torch's")

from torch import Tensor, nn, optim

from pipeline.data.batches import Epoch, Pixels, training_batches
from pipeline.data.decoded import TRAIN, Decoded
from pipeline.recipe.schema import Distill
from pipeline.schemes import build
from pipeline.schemes.base import Scheme, Setup
from pipeline.schemes.data_free import generator_of
from pipeline.training import loop
from support import tiny, toys
from support.restated import divergence, entropy, furthest, log_shares, set_rate
from support.tiny import one_thread  # noqa: F401  (for every test here)

SETTINGS, STEPS, BATCH, NOISE = tiny.training(epochs=1), 3, 8, 5
SGD = {"momentum": SETTINGS.momentum, "weight_decay": SETTINGS.weight_decay}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"), classes=tiny.CLASSES)


def scheme(data: Decoded, folder: Path, line: dict[str, Any], teachers: int = 1, **section: Any) -> Scheme:
    student, recipe = toys.classifier(1), Distill.model_validate({"scheme": line, "batch": BATCH, **section})
    teaching = [toys.classifier(2 + number) for number in range(teachers)]
    made = build(Setup(student, student, teaching, data, recipe, "distill", folder))
    for player in made.players.values():
        player.network.double()
    return made


def rates(peak: float) -> Iterator[float]:
    return (peak * (1 + math.cos(math.pi * number / STEPS)) / 2 for number in range(STEPS))


def learn(stepper: optim.Optimizer, rate: float, loss: Tensor) -> None:
    set_rate(stepper, rate)
    stepper.zero_grad()
    loss.backward()
    stepper.step()


def logistic(said: Tensor) -> Tensor:
    return 1 / (1 + (-said).exp())


def test_a_discriminator_tells_them_apart_and_the_student_deceives_it(data: Decoded, tmp_path: Path) -> None:
    line = {"name": "adversarial", "weight": 0.7, "closeness": 0.3}
    taught = scheme(data, tmp_path, line, label_weight=0.2)
    networks = [player.network for player in taught.players.values()]
    student, judge = (copy.deepcopy(network).train() for network in networks)
    teacher = taught.teachers[0].network
    shown = training_batches(Pixels(data), data.part(TRAIN), BATCH, SETTINGS, Epoch(0, 0, 0))
    loop.Run(taught, data, SETTINGS, tmp_path / "here.pt").epoch(0, "here")
    sgd = optim.SGD(student.parameters(), **SGD)
    adam = optim.Adam(judge.parameters(), betas=(0.5, 0.999))
    for batch, rate, own in zip(shown, rates(SETTINGS.lr), rates(2e-4), strict=True):
        goal = teacher(batch.images)[0].detach()
        said = copy.deepcopy(student)(batch.images)[0].detach()  # a copy, so that no statistic moves
        told = -logistic(judge(goal)).log().mean() - (1 - logistic(judge(said))).log().mean()
        learn(adam, own, told)
        answer = student(batch.images)[0]
        deceived = -logistic(judge(answer)).log().mean()
        labels = entropy(answer, batch.labels)
        learn(sgd, rate, 0.2 * labels + 0.7 * deceived + 0.3 * (answer - goal).abs().mean())
    assert furthest(networks[0], student) < 1e-6
    assert furthest(networks[1], judge) < 1e-6


def unlike(images: Tensor, student: nn.Module, teacher: nn.Module) -> Tensor:
    return -4 * divergence(teacher(images)[0] / 2, student(images)[0] / 2)


def sure(images: Tensor, student: nn.Module, teacher: nn.Module) -> Tensor:
    logits, features = teacher(images)[:2]
    mean = log_shares(logits).exp().mean(0)
    value = 0.5 * -log_shares(logits).max(1).values.mean() - 0.2 * features.abs().mean()
    return value + 3 * (mean * mean.log()).sum()


@pytest.mark.parametrize(
    ("line", "every", "temperature", "value"),
    [
        ({"name": "zskt", "every": 2, "temperature": 2.0}, 2, 2, unlike),
        ({"name": "dafl", "one_hot": 0.5, "activation": 0.2, "balance": 3.0}, 1, 1, sure),
    ],
)
def test_a_generator_makes_the_images_and_none_of_the_set_is_drawn(
    line: dict[str, Any],
    every: int,
    temperature: int,
    value: Any,
    data: Decoded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taught = scheme(data, tmp_path, {"noise": NOISE, **line})
    networks = [player.network for player in taught.players.values()]
    student, generator = (copy.deepcopy(network).train() for network in networks)
    teacher = taught.teachers[0].network
    with monkeypatch.context() as patch:
        patch.setattr(loop, "training_batches", lambda *_: (pytest.fail("an image is drawn") for _ in "x"))
        loop.Run(taught, data, SETTINGS, tmp_path / "here.pt").epoch(0, "here")
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(1)
    sgd = optim.SGD(student.parameters(), **SGD)
    adam = optim.Adam(generator.parameters(), betas=(0.9, 0.999))
    for number, rate, own in zip(range(STEPS), rates(SETTINGS.lr), rates(1e-3), strict=True):
        # Copies, so that no statistic moves.
        images = copy.deepcopy(generator)(torch.randn(BATCH, NOISE).double()).detach()
        if number % every == 0:
            made = generator(torch.randn(BATCH, NOISE, generator=draws).double())
            learn(adam, own, value(made, copy.deepcopy(student), teacher))
        goal = teacher(images)[0].detach()
        learn(sgd, rate, temperature**2 * divergence(goal / temperature, student(images)[0] / temperature))
    assert furthest(networks[0], student) < 1e-6
    assert furthest(networks[1], generator) < 1e-6


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 28, 28), (3, 31, 45)])
def test_a_generator_makes_images_of_any_shape(shape: tuple[int, int, int]) -> None:
    images = generator_of(shape, NOISE)(torch.randn(4, NOISE))
    assert images.shape == (4, *shape)
    assert images.min().item() >= 0 and images.max().item() <= 1
    assert images.std().item() > 0.05
