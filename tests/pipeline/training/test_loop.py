"""The training loop: killed anywhere it ends as if left alone; what it feeds, keeps and refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training is torch's")

from torch import Tensor, nn

from pipeline.data.batches import Epoch, Pixels, plain_batches, training_batches
from pipeline.data.decoded import TRAIN, VALIDATION, Decoded
from pipeline.losses import Term, bind_losses
from pipeline.recipe.schema import Loss, Training
from pipeline.schemes.base import Scheme
from pipeline.schemes.offline import Guide, Offline
from pipeline.schemes.supervised import Supervised
from pipeline.training import loop
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal

EPOCHS, STEPS = 3, 3  # 27 training images in batches of 8: three a epoch, and a rest


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"))


def supervised() -> Scheme:
    return Supervised(tiny.model(seed=1), tiny.labels(0.1))


def with_hints() -> Scheme:
    student, teacher = tiny.model(tiny.NARROW, seed=1), tiny.model(tiny.WIDE, seed=2)
    torch.manual_seed(3)
    lines = [Loss(name="fitnet"), Loss(name="kd"), Loss(name="srkd")]
    terms = bind_losses(lines, tiny.shapes_of(student, teacher), "here")
    return Offline(tiny.parts(student), [Guide(tiny.parts(teacher), terms, 1.0)], tiny.labels(0.0, 0.5))


def on_a_grid() -> Scheme:
    return Supervised(tiny.graph(), tiny.labels(0.0))


class Left(NamedTuple):
    """What a training left behind."""

    history: loop.History
    states: list[dict[str, Tensor]]
    kept: dict[str, Any]


def fit(scheme: Scheme, data: Decoded, settings: Training, folder: Path) -> Left:
    history = loop.fit(scheme, data, settings, folder, "here")
    players = scheme.players.values()
    return Left(history, [tiny.state(m) for p in players for m in (p.network, p.adapters)], tiny.kept(folder))


KINDS: dict[str, tuple[Callable[[], Scheme], dict[str, Any]]] = {
    "plain": (supervised, {}),
    "ema": (supervised, {"ema": 0.8, "schedule": "step", "milestones": (0.5,)}),
    "learning losses": (with_hints, {"warmup": 0.4}),
    "adamw": (with_hints, {"optimizer": "adamw", "lr": 0.01, "clip": 0.5, "layer_decay": 0.5}),
    "qat": (on_a_grid, {"epochs": 2}),
}


@pytest.fixture(scope="module")
def alone(
    request: pytest.FixtureRequest, data: Decoded, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Callable[[], Scheme], Training, Left]:
    """A kind of training, and what it leaves when nothing stops it."""
    make, changes = KINDS[request.param]
    settings = tiny.training(**{"epochs": EPOCHS, **changes})
    return make, settings, fit(make(), data, settings, tmp_path_factory.mktemp("alone"))


# The first batch of all, within the first epoch, at an epoch's first batch, within the last.
PLACES = [0, 1, STEPS, EPOCHS * STEPS - 1]
QUICK = [(kind, place) for kind in KINDS if kind != "qat" for place in PLACES]


@pytest.mark.parametrize(("alone", "killed"), [*QUICK, ("qat", STEPS + 1)], indirect=["alone"])
def test_a_training_killed_anywhere_ends_as_if_left_alone(
    alone: tuple[Callable[[], Scheme], Training, Left], killed: int, data: Decoded, tmp_path: Path
) -> None:
    make, settings, expected = alone
    with pytest.raises(tiny.Killed):
        loop.fit(tiny.Watched(make(), tiny.die_at(killed)), data, settings, tmp_path, "here")
    resumed = tiny.Watched(make(), tiny.die_at(-1))
    found = fit(resumed, data, settings, tmp_path)
    assert resumed.count == (settings.epochs - killed // STEPS) * STEPS
    assert found.history == expected.history
    for mine, theirs in zip(found.states, expected.states, strict=True):
        assert tiny.same(mine, theirs) == []
    assert found.kept.keys() == expected.kept.keys()
    assert [k for k, value in found.kept.items() if not np.array_equal(value, expected.kept[k])] == []


def test_a_training_that_is_done_is_not_done_again(data: Decoded, tmp_path: Path) -> None:
    first, second = supervised(), tiny.Watched(supervised(), tiny.die_at(0))
    loop.fit(first, data, tiny.training(), tmp_path, "here")
    loop.fit(second, data, tiny.training(), tmp_path, "here")
    mine, theirs = (scheme.players["student"].network for scheme in (first, second))
    assert tiny.same(tiny.state(mine), tiny.state(theirs)) == []
    assert not theirs.training


def test_training_learns_and_shows_other_batches_for_each_epoch_and_seed(
    data: Decoded, tmp_path: Path
) -> None:
    shown: list[tuple[int, ...]] = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        scheme, settings = tiny.Watched(supervised(), tiny.die_at(-1)), tiny.training(epochs=6, seed=seed)
        history = loop.fit(scheme, data, settings, tmp_path / str(seed), "here")
        assert history.loss[-1] < 0.8 * history.loss[0]
        assert history.precision == "float32"
        shown += scheme.shown
    assert len(shown) == len(set(shown)) == 2 * 6 * STEPS
    assert loop.fit(supervised(), data, tiny.training(epochs=0), tmp_path, "here").best_epoch == -1


def test_a_loss_that_is_no_number_is_refused_with_its_epoch(data: Decoded, tmp_path: Path) -> None:
    broken = tiny.Watched(supervised(), lambda step: math.nan if step == STEPS + 1 else 1.0)
    with pytest.raises(Refusal, match=r"here: the loss is nan in epoch 2; lower lr \(now 0\.05\)"):
        loop.fit(broken, data, tiny.training(), tmp_path, "here")
    kept = torch.load(tmp_path / "here.pt", weights_only=True)
    assert len(kept["history"]["loss"]) == 1
    assert all(t.isfinite().all() for t in kept["players"]["student"]["modules"][0].values())


def test_the_best_on_validation_is_kept(
    data: Decoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, seen = iter([0.1, 0.5, 0.75, 0.75, 0.6]), []

    def look(network: nn.Module, data: Decoded, which: int = VALIDATION) -> float:
        seen.append(tiny.state(network))
        return next(script)

    monkeypatch.setattr(loop, "validation_score", look)
    scheme = supervised()
    history = loop.fit(scheme, data, tiny.training(epochs=4), tmp_path, "here")
    assert history.best_epoch == 2, "of equals, the later"
    assert history.validation == [0.5, 0.75, 0.75, 0.6]
    kept = tiny.state(scheme.players["student"].network)
    assert [tiny.same(kept, state) == [] for state in seen] == [False, False, False, True, False]


def test_smoothed_labels_are_the_equation_s(data: Decoded) -> None:
    scheme, smoothing = supervised(), 0.1
    batch = next(plain_batches(data, data.part(TRAIN), 5))
    with torch.no_grad():
        loss = tiny.losses(scheme, batch, 0.0)["student"].item()
        logits = scheme.players["student"].network(batch.images)[0].double()
    total = 0.0
    for row, label in zip(logits.tolist(), batch.labels.tolist(), strict=True):
        logs = [z - math.log(sum(math.exp(other) for other in row)) for z in row]
        total -= (1 - smoothing) * logs[label] + smoothing * sum(logs) / len(logs)
    assert loss == pytest.approx(total / len(batch.labels), rel=1e-5)


def test_an_offline_step_is_the_weighted_sum(data: Decoded) -> None:
    student, teacher = tiny.model(tiny.NARROW, seed=1), tiny.model(tiny.WIDE, seed=2)
    batch = next(plain_batches(data, data.part(TRAIN), 5))
    terms = [
        Term(lambda step: step.progress * torch.ones(()), 3.0, 0.0, 1.0),
        Term(lambda step: step.teacher.logits.sum(), 0.5, 0.0, 1.0),
    ]
    scheme = Offline(tiny.parts(student), [Guide(tiny.parts(teacher), terms, 1.0)], tiny.labels(0.0, 0.25))
    loss = tiny.losses(scheme, batch, 0.75)["student"]
    hard = nn.functional.cross_entropy(student(batch.images)[0], batch.labels)
    taught = teacher(batch.images)[0].sum()
    assert loss.item() == pytest.approx((0.25 * hard + 3 * 0.75 + 0.5 * taught).item(), rel=1e-5)
    assert not any(p.requires_grad for p in teacher.parameters())


def test_an_epoch_shows_each_image_at_most_once_and_leaves_out_another_rest_each_time(data: Decoded) -> None:
    part, left_out = data.part(TRAIN), []
    for seed in range(8):
        batches = list(training_batches(Pixels(data), part, 8, tiny.training(), Epoch(0, seed, seed)))
        assert [len(batch.labels) for batch in batches] == [8, 8, 8]
        shown = torch.cat([batch.indices for batch in batches]).tolist()
        assert len(set(shown)) == 24 and set(shown) <= set(part.tolist())
        left_out.append(frozenset(set(part.tolist()) - set(shown)))
        for batch in batches:
            assert batch.labels.tolist() == data.labels[batch.indices.numpy()].tolist()
            assert batch.images.shape == (8, 3, tiny.SIDE, tiny.SIDE)
            assert batch.images.min() >= 0 and batch.images.max() <= 1
    assert len(set(left_out)) > 1
    (one,) = training_batches(Pixels(data), part, 99, tiny.training(), Epoch(0, 0, 0))
    assert len(one.labels) == 27
    plain = list(plain_batches(data, part, 8))
    assert [len(batch.labels) for batch in plain] == [8, 8, 8, 3]
    assert torch.equal(plain[0].images[0], torch.tensor(data.images[part[0]]).permute(2, 0, 1) / 255)


def moved(before: dict[str, Tensor], network: nn.Module) -> list[str]:
    """What has changed in a network; batch-norm's counters aside, which nothing here reads."""
    return [name for name in tiny.same(before, tiny.state(network)) if "num_batches" not in name]


def test_training_on_a_grid_moves_its_weights_and_no_scale(data: Decoded, tmp_path: Path) -> None:
    scheme = on_a_grid()
    grid = scheme.players["student"].network
    before = tiny.state(grid)
    loop.validation_score(grid, data)
    assert tiny.same(before, tiny.state(grid)) == [], "looking changed it"
    run = loop.Run(scheme, data, tiny.training(epochs=1), tmp_path / "run.pt")
    run.begin()
    run.epoch(0, "here")
    changed = tiny.same(before, tiny.state(grid))
    assert {name for name in before if name.endswith("weight")} <= set(changed)
    assert not [name for name in changed if "scale" in name]


def test_a_training_never_ends_below_what_it_was_given(data: Decoded, tmp_path: Path) -> None:
    """A learning rate that ruins the network: the given one is kept, to the bit."""
    scheme = on_a_grid()
    before = tiny.state(scheme.players["student"].network)
    given = loop.validation_score(scheme.players["student"].network, data)
    history = loop.fit(tiny.Watched(scheme, ruin(scheme)), data, tiny.training(epochs=2), tmp_path, "here")
    assert history.start == given and max(history.validation) < given
    assert history.best_epoch == -1
    assert tiny.same(before, tiny.state(scheme.players["student"].network)) == []


def ruin(scheme: Supervised) -> Callable[[int], float]:
    """Leaves a network that gives every image the class that is right least often."""

    def before(step: int) -> float:
        for name, tensor in scheme.players["student"].network.named_parameters():
            tensor.data.zero_()
            tensor.data[-1:] = float(name.endswith("fc.bias"))  # a class that no image has
        return 0.0

    return before


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_each_image_is_looked_at_by_itself(
    ema: float, data: Decoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = loop.Run(on_a_grid(), data, tiny.training(ema=ema), tmp_path / "run.pt")
    looked_at = run.learners["student"].candidate
    together = loop.predict(looked_at, data, VALIDATION)
    monkeypatch.setattr(loop, "PREDICT_BATCH", 1)
    assert torch.allclose(loop.predict(looked_at, data, VALIDATION), together, atol=1e-4)


@pytest.mark.parametrize("left", [0, 0.5, 0.99])
def test_a_torn_file_of_a_killed_run_is_named(left: float, data: Decoded, tmp_path: Path) -> None:
    loop.fit(supervised(), data, tiny.training(epochs=1), tmp_path, "here")
    whole = (tmp_path / "here.pt").read_bytes()
    (tmp_path / "here.pt").write_bytes(whole[: int(left * len(whole))] or b"torn")
    with pytest.raises(Refusal, match=rf"{tmp_path}/here\.pt: .* cannot be read .*; remove it"):
        loop.fit(supervised(), data, tiny.training(epochs=1), tmp_path, "here")
