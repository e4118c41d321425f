"""ARD and RSLAD beside plain restatements, in float64; what the attack does and leaves; what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the schemes are torch's")

from torch import Tensor, nn

from pipeline.data.batches import Batch, Epoch, Pixels, training_batches
from pipeline.data.decoded import TRAIN, Decoded
from pipeline.recipe.schema import Distill
from pipeline.schemes import build
from pipeline.schemes.base import Scheme, Setup
from pipeline.schemes.robust import Attack
from pipeline.training import loop
from support import tiny, toys
from support.restated import descend, divergence, entropy, furthest
from support.tiny import one_thread  # noqa: F401  (for every test here)

SETTINGS = tiny.training(epochs=1)
ATTACK = {"reach": 0.1, "stride": 0.04, "steps": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"), classes=tiny.CLASSES)


def scheme(data: Decoded, folder: Path, line: dict[str, Any], teachers: int = 1, **section: Any) -> Scheme:
    student, recipe = toys.classifier(1), Distill.model_validate({"scheme": line, **section})
    teaching = [toys.classifier(2 + number) for number in range(teachers)]
    return build(Setup(student, student, teaching, data, recipe, "distill", folder))


def changed(network: nn.Module, images: Tensor, loss: Any, draws: torch.Generator) -> Tensor:
    own, start = copy.deepcopy(network).eval(), torch.rand(images.shape, generator=draws)
    found = (images + 0.1 * (2 * start - 1)).clamp(0, 1)
    for _ in range(4):
        found = found.detach().requires_grad_()
        loss(own(found)[0]).backward()
        assert found.grad is not None
        with torch.no_grad():
            found = found + 0.04 * torch.sign(found.grad)
            found = torch.minimum(torch.maximum(found, images - 0.1), images + 0.1).clamp(0, 1)
    return found.detach()


@pytest.mark.parametrize("name", ["ard", "rslad"])
def test_changed_images_are_to_be_answered_as_the_teacher_answers_them_unchanged(
    name: str, data: Decoded, tmp_path: Path
) -> None:
    own = {"ard": {"weight": 0.7, "temperature": 3.0}, "rslad": {"share": 0.6}}[name]
    section = {"label_weight": 0.2} if name == "ard" else {}
    taught = scheme(data, tmp_path, {"name": name, **own, **ATTACK}, **section)
    student, teacher = taught.players["student"].network, taught.teachers[0].network
    plain, draws = copy.deepcopy(student).train(), torch.Generator().manual_seed(1)
    shown = training_batches(Pixels(data), data.part(TRAIN), SETTINGS.batch, SETTINGS, Epoch(0, 0, 0))
    loop.Run(taught, data, SETTINGS, tmp_path / "here.pt").epoch(0, "here")

    def loss(number: int, batch: Batch) -> Tensor:
        target = teacher(batch.images)[0].detach()
        if name == "ard":
            other = changed(plain, batch.images, lambda logits: entropy(logits, batch.labels), draws)
            on_changed = 0.7 * 9 * divergence(target / 3, plain(other)[0] / 3)
            return on_changed + 0.2 * entropy(plain(batch.images)[0], batch.labels)
        other = changed(plain, batch.images, lambda logits: divergence(target, logits), draws)
        on_changed = 0.6 * divergence(target, plain(other)[0])
        return on_changed + 0.4 * divergence(target, plain(batch.images)[0])

    descend([plain], list(shown), SETTINGS, loss)
    assert furthest(student, plain) < 1e-6


def test_an_attack_stays_in_reach_raises_the_loss_and_leaves_the_network_as_it_was() -> None:
    network, images = toys.classifier(1).train(), tiny.pictures(8).double()
    labels, before = torch.arange(8) % tiny.CLASSES, tiny.state(network)
    loss = lambda logits: nn.functional.cross_entropy(logits, labels)
    found = Attack(0.05, 0.02, 5)(network, images, loss, torch.Generator().manual_seed(0))
    assert 0.04 < float((found - images).abs().max()) < 0.05 + 1e-9
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    assert network.training and tiny.same(before, tiny.state(network)) == []
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    network.eval()
    noise = (images + 0.05 * torch.randn(images.shape).sign()).clamp(0, 1)
    there, near = (float(loss(network(x)[0]).detach()) for x in (found, noise))
    assert there > near
