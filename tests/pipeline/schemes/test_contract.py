"""The contract of a scheme, by toys: steps against plain restatements, and who must not learn does not."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the schemes are torch's")

from torch import Tensor, nn, optim

from pipeline.data.batches import Epoch, Pixels, training_batches
from pipeline.data.decoded import TRAIN, Decoded
from pipeline.recipe.schema import Training
from pipeline.schemes.base import Player, held
from pipeline.training import loop
from support import tiny, toys
from support.restated import divergence, entropy, furthest, set_rate
from support.tiny import one_thread  # noqa: F401  (for every test here)

STEPS = 3  # 27 training images in batches of 8
SETTINGS = {"momentum": 0.9, "weight_decay": 5e-4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"), classes=tiny.CLASSES)


@pytest.mark.parametrize("constant", [True, False])
def test_two_players_step_by_one_backward_of_their_summed_losses(
    constant: bool, data: Decoded, tmp_path: Path
) -> None:
    scheme, settings = toys.Mutual(constant), tiny.training(epochs=1)
    student, peer = (copy.deepcopy(player.network).train() for player in scheme.players.values())
    average = copy.deepcopy(peer)
    run = loop.Run(scheme, data, settings, tmp_path / "here.pt")
    run.epoch(0, "here")
    sgd = optim.SGD(student.parameters(), **SETTINGS)
    adamw = optim.AdamW(peer.parameters(), betas=(0.9, 0.999), weight_decay=0.1)
    batches = training_batches(Pixels(data), data.part(TRAIN), settings.batch, settings, Epoch(0, 0, 0))
    for number, batch in enumerate(batches):
        set_rate(sgd, settings.lr * (1 + math.cos(math.pi * number / STEPS)) / 2)
        set_rate(adamw, 0.01 * (0.1 if number / STEPS >= 0.5 else 1))
        one, two = student(batch.images)[0], peer(batch.images)[0]
        fixed = [logits.detach() if constant else logits for logits in (one, two)]
        total = entropy(one, batch.labels) + divergence(fixed[1], one)
        total = total + entropy(two, batch.labels) + divergence(fixed[0], two)
        for optimiser in (sgd, adamw):
            optimiser.zero_grad()
        total.backward()
        for optimiser in (sgd, adamw):
            optimiser.step()
        for mine, theirs in zip(average.state_dict().values(), peer.state_dict().values(), strict=True):
            mine.copy_((mine + theirs) / 2 if mine.is_floating_point() else theirs)
    assert furthest(scheme.players["student"].network, student) < 1e-6
    assert furthest(scheme.players["peer"].network, peer) < 1e-6
    assert furthest(run.learners["peer"].candidate, average) < 1e-6
    assert run.learners["student"].average is None


def test_with_one_graph_a_player_learns_from_the_other_s_loss_too(data: Decoded, tmp_path: Path) -> None:
    left = []
    for constant in (True, False):
        scheme = toys.Mutual(constant)
        loop.Run(scheme, data, tiny.training(epochs=1), tmp_path / "here.pt").epoch(0, "here")
        left.append(scheme.players["student"].network)
    assert furthest(*left) > 1e-4


def test_a_generator_has_its_own_optimiser_and_rhythm_and_no_image_is_drawn(
    data: Decoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = toys.Generated()
    student, generator = (copy.deepcopy(player.network).train() for player in scheme.players.values())
    teacher, before, settings = copy.deepcopy(scheme.teacher.network), scheme.before, tiny.training(epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "training_batches", lambda *_: (pytest.fail("an image is drawn") for _ in "x"))
        run = loop.Run(scheme, data, settings, tmp_path / "here.pt")
        for epoch in range(2):
            run.epoch(epoch, "here")
    sgd = optim.SGD(student.parameters(), **SETTINGS)
    adam = optim.Adam(generator.parameters(), lr=0.02, betas=(0.5, 0.999))

    def apart(own: nn.Module, images: Tensor) -> Tensor:
        return (own(images)[0] - teacher(images)[0]).abs().mean()

    for number in range(2 * STEPS):
        if number % STEPS == 0:
            torch.manual_seed(number // STEPS)
            draws = torch.Generator().manual_seed(number // STEPS + 1)
        noise = torch.randn(toys.BATCH, toys.NOISE, dtype=torch.float64)
        images = copy.deepcopy(generator)(noise).detach()  # a copy, so that no statistic moves
        if number % toys.EVERY == 0:
            adam.zero_grad()
            noise = torch.randn(toys.BATCH, toys.NOISE, generator=draws, dtype=torch.float64)
            (-apart(copy.deepcopy(student), generator(noise))).backward()
            adam.step()
        progress = number / (2 * STEPS)
        set_rate(sgd, settings.lr * (1 + math.cos(math.pi * progress)) / 2)
        sgd.zero_grad()
        (apart(student, images) + progress * apart(student, before)).backward()
        sgd.step()
        before = images
    assert furthest(scheme.student, student) < 1e-6
    assert furthest(scheme.generator, generator) < 1e-6
    assert torch.allclose(scheme.before, before, atol=1e-6)


def test_who_must_not_learn_in_a_phase_or_a_step_does_not_change_by_a_bit(
    data: Decoded, tmp_path: Path
) -> None:
    scheme = toys.Generated()
    run = loop.Run(scheme, data, tiny.training(), tmp_path / "here.pt")
    for learner in run.learners.values():
        learner.train()
    batches, draws = scheme.source(iter(())), torch.Generator()

    def changed() -> set[str]:
        found = {name: tiny.same(before[name], now) for name, now in states().items()}
        assert all("weight" in str(names) for names in found.values() if names)
        return {name for name, names in found.items() if names}

    def states() -> dict[str, dict[str, Tensor]]:
        networks = {name: player.network for name, player in scheme.players.items()}
        return {name: tiny.state(network) for name, network in networks.items()}

    before = states()
    batch = next(batches)
    assert changed() == set(), "drawing a batch"
    for phase, name in zip(scheme.phases(0.5), ("generator", "student"), strict=True):
        before = states()
        run.take(phase, [name], batch, 0.5, draws)
        assert changed() == {name}
    for expected in ({"student", "generator"}, {"student"}, {"student", "generator"}):
        before = states()
        run.step(next(batches), 0.5, draws)
        assert changed() == expected


def test_what_is_held_is_let_go_as_it_was() -> None:
    model = tiny.model(seed=1).train()
    frozen = model.network.conv1.weight.requires_grad_(False)
    before = tiny.state(model)
    with pytest.raises(tiny.Killed), held([model]):
        assert not any(parameter.requires_grad for parameter in model.parameters())
        images = tiny.pictures(4).requires_grad_()
        model(images)[0].sum().backward()
        assert images.grad is not None and all(p.grad is None for p in model.parameters())
        assert tiny.same(before, tiny.state(model)) != []
        raise tiny.Killed
    assert tiny.same(before, tiny.state(model)) == []
    assert [id(p) for p in model.parameters() if not p.requires_grad] == [id(frozen)]


def test_a_parameter_has_one_player(data: Decoded, tmp_path: Path) -> None:
    scheme = toys.Mutual()
    scheme.players["third"] = Player(scheme.players["peer"].network)
    with pytest.raises(AssertionError, match="belongs to two players"):
        loop.Run(scheme, data, Training(), tmp_path / "here.pt")
