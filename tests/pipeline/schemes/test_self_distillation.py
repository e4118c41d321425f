"""Self-distillation beside plain restatements, in float64; two views of an image; what is refused."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the schemes are torch's")

from torch import Tensor

from pipeline.data.batches import Batch, Epoch, Pixels, training_batches
from pipeline.data.decoded import TRAIN, Decoded
from pipeline.recipe.schema import Distill
from pipeline.schemes import build
from pipeline.schemes.base import Scheme, Setup
from pipeline.training import loop
from support import tiny, toys
from support.restated import descend, divergence, entropy, furthest, log_shares
from support.tiny import one_thread  # noqa: F401  (for every test here)

SETTINGS = tiny.training(epochs=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"), classes=tiny.CLASSES)


def scheme(data: Decoded, folder: Path, line: dict[str, Any], **section: Any) -> Scheme:
    student = toys.classifier(1)
    recipe = Distill.model_validate({"scheme": line, "label_weight": 0.2, **section})
    return build(Setup(student, student, [], data, recipe, "distill", folder))


def same_class(number: int, answers: list[Tensor], batch: Batch, draws: torch.Generator) -> Tensor:
    logits, chances = answers[0], torch.rand(len(batch.labels), len(batch.labels), generator=draws)
    apart = []
    for own, label in enumerate(batch.labels):
        others = [k for k, other in enumerate(batch.labels) if other == label and k != own]
        if others:
            chosen = max(others, key=lambda k: float(chances[own, k]))
            apart.append(divergence(logits[[chosen]].detach() / 3, logits[[own]] / 3))
    return 9 * torch.stack(apart).mean()


def ensembled(number: int, answers: list[Tensor], batch: Batch, draws: torch.Generator) -> Tensor:
    logits, features = answers[0] / 3, answers[1].detach()
    rows, target = range(len(features)), log_shares(logits.detach()).exp()
    weights = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for i in rows:
        for j in rows:
            if i != j:
                weights[i, j] = torch.exp(features[i] @ features[j] / features[i].norm() / features[j].norm())
    weights = weights / weights.sum(1, keepdim=True)
    goal = 0.6 * target
    for power in range(1, 100):  # (I − ωA)⁻¹ = Σ (ωA)ᵏ
        goal = goal + 0.6 * 0.4**power * torch.linalg.matrix_power(weights, power) @ target
    return 9 * (goal * (goal.log() - log_shares(logits))).sum(1).mean()


def agreed(number: int, answers: list[Tensor], batch: Batch, draws: torch.Generator) -> Tensor:
    count = len(batch.labels) // 2
    (one, two), (first, second) = (x.split(count) for x in answers[:2])
    apart = divergence(two.detach() / 3, one / 3) + divergence(one.detach() / 3, two / 3)
    return 9 * apart + 0.1 * ((first.mean(0) - second.mean(0)) ** 2).sum()


@pytest.mark.parametrize(
    ("line", "term"),
    [
        ({"name": "cs-kd"}, same_class),
        ({"name": "bake", "omega": 0.4}, ensembled),
        ({"name": "ddgsd", "mmd": 0.1}, agreed),
    ],
)
def test_the_student_learns_from_its_own_answers(
    line: dict[str, Any], term: Any, data: Decoded, tmp_path: Path
) -> None:
    taught = scheme(data, tmp_path, {"weight": 0.7, "temperature": 3.0, **line})
    student = taught.players["student"].network
    plain, draws = copy.deepcopy(student).train(), torch.Generator().manual_seed(1)
    shown = training_batches(Pixels(data), data.part(TRAIN), SETTINGS.batch, SETTINGS, Epoch(0, 0, 0))
    torch.manual_seed(0)
    batches = list(taught.source(shown))
    loop.Run(taught, data, SETTINGS, tmp_path / "here.pt").epoch(0, "here")

    def loss(number: int, batch: Batch) -> Tensor:
        answers = plain(batch.images)
        return 0.2 * entropy(answers[0], batch.labels) + 0.7 * term(number, answers, batch, draws)

    descend([plain], batches, SETTINGS, loss)
    assert furthest(student, plain) < 1e-6


def test_an_image_alone_in_its_class_learns_from_its_label_only(data: Decoded, tmp_path: Path) -> None:
    taught = scheme(data, tmp_path, {"name": "cs-kd"})
    batch = Batch(tiny.pictures(3).double(), torch.arange(3), torch.arange(3))
    student = copy.deepcopy(taught.players["student"].network)
    loss = tiny.losses(taught, batch, 0.0)["student"]
    wanted = 0.2 * entropy(student(batch.images)[0], batch.labels)
    assert loss.item() == pytest.approx(wanted.item())


def test_the_second_view_shows_the_same_image_otherwise(data: Decoded, tmp_path: Path) -> None:
    taught = scheme(data, tmp_path, {"name": "ddgsd"})
    shown = partial(training_batches, Pixels(data), data.part(TRAIN), 8, SETTINGS, Epoch(0, 0, 0))
    for given, batch in zip(shown(), taught.source(shown()), strict=True):
        first, second = batch.images.chunk(2)
        assert torch.equal(first, given.images)
        assert not torch.equal(first, second)
        assert torch.equal(batch.indices[:8], batch.indices[8:])
        # Only shifted, with black beside it, and mirrored: what is left of an image comes from its own pixels.
        for image, index in zip(second, given.indices, strict=True):
            own = {tuple(pixel) for row in data.images[int(index)].tolist() for pixel in row} | {(0, 0, 0)}
            assert {
                tuple(p) for row in (255 * image).round().int().permute(1, 2, 0).tolist() for p in row
            } <= own


def test_the_state_at_the_end_of_the_last_cycle_teaches(data: Decoded, tmp_path: Path) -> None:
    line = {"name": "snapshot", "cycles": 3, "weight": 0.7, "temperature": 3.0}
    taught = scheme(data, tmp_path, line)
    student = taught.players["student"].network
    plain, past = copy.deepcopy(student).train(), []
    loop.Run(taught, data, SETTINGS, tmp_path / "here.pt").epoch(0, "here")

    def loss(number: int, batch: Batch) -> Tensor:
        past.append(copy.deepcopy(plain).eval())  # three steps, three cycles
        answer = plain(batch.images)[0]
        total = 0.2 * entropy(answer, batch.labels)
        if number:
            target = past[-1](batch.images)[0].detach()
            total = total + 0.7 * 9 * divergence(target / 3, answer / 3)
        return total

    shown = training_batches(Pixels(data), data.part(TRAIN), SETTINGS.batch, SETTINGS, Epoch(0, 0, 0))
    descend([plain], list(shown), SETTINGS, loss)
    assert furthest(student, plain) < 1e-6


def test_within_a_cycle_the_teacher_stays(data: Decoded, tmp_path: Path) -> None:
    taught = scheme(data, tmp_path, {"name": "snapshot", "cycles": 2})
    batch, student = (
        Batch(tiny.pictures(4).double(), torch.arange(4), torch.arange(4)),
        taught.players["student"],
    )
    before = tiny.losses(taught, batch, 0.5)["student"].item()
    with torch.no_grad():
        student.network.network.fc.bias.copy_(torch.tensor([3.0, 0, 0, 0]))
    moved = tiny.losses(taught, batch, 0.6)["student"].item()
    again = scheme(data, tmp_path, {"name": "snapshot", "cycles": 2})
    again.players["student"].network.load_state_dict(student.network.state_dict())
    fresh = tiny.losses(again, batch, 0.5)["student"].item()
    assert moved > before
    assert moved > fresh, "only a copy that is taken anew agrees with the student"
