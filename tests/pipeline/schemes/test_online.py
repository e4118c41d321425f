"""Collaborative learning and codistillation beside plain restatements, in float64; their state; their refusals."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the schemes are torch's")

from torch import Tensor, nn

from pipeline.data.batches import Batch, Epoch, Pixels, training_batches
from pipeline.data.decoded import TRAIN, Decoded
from pipeline.engine.code_digest import reach
from pipeline.recipe.schema import Distill
from pipeline.schemes import build
from pipeline.schemes.base import Scheme, Setup
from pipeline.schemes.online import least_logits
from pipeline.training import loop
from support import tiny, toys
from support.restated import descend, divergence, entropy, furthest, log_shares
from support.tiny import one_thread  # noqa: F401  (for every test here)

SETTINGS = tiny.training(epochs=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"), classes=tiny.CLASSES)


def scheme(data: Decoded, folder: Path, line: dict[str, Any], **section: Any) -> Scheme:
    recipe = Distill.model_validate({"scheme": {"peers": ["2", "3"], **line}, **section})
    student = toys.classifier(1)
    fresh = lambda name: toys.classifier(int(name))
    return build(Setup(student, student, [], data, recipe, "distill", folder, fresh))


def players(scheme: Scheme) -> list[nn.Module]:
    return [player.network for player in scheme.players.values()]


def batches_of(data: Decoded) -> list[Batch]:
    return list(training_batches(Pixels(data), data.part(TRAIN), SETTINGS.batch, SETTINGS, Epoch(0, 0, 0)))


def naive(answers: list[Tensor], labels: Tensor) -> Tensor:
    rows = []
    for row, label in enumerate(labels):
        one = [log_shares(answer[row : row + 1])[0, label].item() for answer in answers]
        rows.append(answers[one.index(max(one))][row])
    return torch.stack(rows)


def least(answers: list[Tensor], labels: Tensor) -> Tensor:
    rows = []
    for row, label in enumerate(labels):
        rows.append(torch.stack([answer[row] - answer[row, label] for answer in answers]).min(0).values)
    return torch.stack(rows)


@pytest.mark.parametrize(("target", "made"), [("naive", naive), ("min-logit", least)])
def test_all_learn_from_the_labels_and_one_target(
    target: str, made: Any, data: Decoded, tmp_path: Path
) -> None:
    line = {"name": "kdcl", "target": target, "weight": 0.7, "temperature": 3.0}
    taught = scheme(data, tmp_path, line, label_weight=0.2)
    plain = [copy.deepcopy(one).train() for one in players(taught)]
    loop.Run(taught, data, SETTINGS, tmp_path / "here.pt").epoch(0, "here")

    def loss(number: int, batch: Batch) -> Tensor:
        answers = [one(batch.images)[0] for one in plain]
        goal = made([answer.detach() for answer in answers], batch.labels)
        terms = [
            0.2 * entropy(own, batch.labels) + 0.7 * 9 * divergence(goal / 3, own / 3) for own in answers
        ]
        return torch.stack(terms).sum()

    descend(plain, batches_of(data), SETTINGS, loss)
    assert max(map(furthest, players(taught), plain)) < 1e-6


def test_the_least_logits_give_the_label_at_least_what_the_best_player_gives_it() -> None:
    logits, labels = 3 * torch.randn(3, 20, 5), torch.arange(20) % 5
    shares = [one.softmax(1)[range(20), labels] for one in (*logits, least_logits(logits, labels))]
    assert bool((shares[-1] >= torch.stack(shares[:-1]).amax(0) - 1e-6).all())


def test_a_change_of_a_target_changes_the_key_of_a_stage_that_does_not_name_it() -> None:
    reached = reach(("pipeline.stages.distill", "run"), frozenset({"kdcl"})).definitions
    assert {("pipeline.schemes.online", "least_logits"), ("pipeline.schemes.online", "best_answer")} <= set(
        reached
    )


def test_each_learns_from_the_mean_of_the_others_old_copies_after_the_burn_in(
    data: Decoded, tmp_path: Path
) -> None:
    line = {"name": "codistillation", "every": 2, "weight": 0.7, "temperature": 2.0, "burn_in": 0.3}
    taught = scheme(data, tmp_path, line)
    plain = [copy.deepcopy(one).train() for one in players(taught)]
    loop.Run(taught, data, SETTINGS, tmp_path / "here.pt").epoch(0, "here")
    old: list[nn.Module] = []

    def loss(number: int, batch: Batch) -> Tensor:
        if number in (0, 2):
            old[:] = [copy.deepcopy(one).eval() for one in plain]
        answers = [one(batch.images)[0] for one in plain]
        with torch.no_grad():
            shares = [log_shares(one(batch.images)[0] / 2).exp() for one in old]
        total = torch.zeros((), dtype=torch.float64)
        for own, answer in enumerate(answers):
            total = total + entropy(answer, batch.labels)
            if number >= 1:  # 0.3 of three steps
                mean = (sum(shares) - shares[own]) / 2
                total = total + 0.7 * 4 * (mean * (mean.log() - log_shares(answer / 2))).sum(1).mean()
        return total

    descend(plain, batches_of(data), SETTINGS, loss)
    assert max(map(furthest, players(taught), plain)) < 1e-6


def test_old_copies_are_kept_with_the_training(data: Decoded, tmp_path: Path) -> None:
    line = {"name": "codistillation", "every": 4}
    taught = scheme(data, tmp_path, line)
    loop.fit(taught, data, tiny.training(epochs=2), tmp_path, "whole")
    again = scheme(data, tmp_path, line)
    with pytest.raises(tiny.Killed):
        loop.fit(tiny.Watched(again, tiny.die_at(4)), data, tiny.training(epochs=2), tmp_path, "cut")
    again = scheme(data, tmp_path, line)
    loop.fit(again, data, tiny.training(epochs=2), tmp_path, "cut")
    for one, other in zip(players(taught), players(again), strict=True):
        assert tiny.same(tiny.state(one), tiny.state(other)) == []
