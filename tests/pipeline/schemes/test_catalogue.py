"""The catalogue of schemes: each trains from a recipe, in float and on the grid; what is not read is refused."""

from __future__ import annotations

import inspect
import itertools
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the schemes are torch's")

from torch import Tensor, nn

from pipeline.data.decoded import Decoded
from pipeline.hyperparameters import KINDS
from pipeline.models.tapped_model import Model
from pipeline.plan import taught_by
from pipeline.recipe.schema import Distill
from pipeline.schemes import SCHEMES, build
from pipeline.schemes.base import TAUGHT, Entry, Phase, Player, Scheme, Setup
from pipeline.training import loop
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"), classes=tiny.CLASSES)


def setup(
    data: Decoded, folder: Path, section: dict[str, Any], form: str = "float", taught: bool = True
) -> Setup:
    """Of a narrow student, which is fresh in float and trained on the grid, and of one teacher or none."""
    like = tiny.model(tiny.NARROW, seed=1)
    student: nn.Module = like if form == "float" else tiny.graph()
    short = {"epochs": 1, "batch": 8, "lr": 0.01, "warmup": 0.0, "precision": "float32"}
    recipe = Distill.model_validate({**short, **section})
    seeds = itertools.count(5)
    fresh = (lambda name: tiny.model(tiny.WIDE, seed=next(seeds))) if form == "float" else None
    teachers = [tiny.model(tiny.WIDE, seed=2)] if taught else []
    return Setup(student, like, teachers, data, recipe, "distill", folder, fresh)


@pytest.mark.parametrize("form", ["float", "grid"])
@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_trains_from_a_recipe(
    name: str, form: str, data: Decoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = itertools.count()
    monkeypatch.setattr(
        loop, "validation_score", lambda network, data: next(looks) / 100
    )  # the trained state is kept
    given = setup(data, tmp_path, {"scheme": name}, form, taught=SCHEMES[name].teachers != "none")
    scheme = build(given)
    first = next(iter(scheme.players.values()))
    assert first.network is given.student, "the first player is the student, which ships"
    before = [tiny.state(player.network) for player in scheme.players.values()]
    fixed = [tiny.state(one.network) for one in scheme.teachers]
    history = loop.fit(scheme, data, tiny.training(epochs=1), tmp_path, name)
    assert math.isfinite(history.loss[0])
    for old, player in zip(before, scheme.players.values(), strict=True):
        assert any("weight" in tensor for tensor in tiny.same(old, tiny.state(player.network)))
    for old, one in zip(fixed, scheme.teachers, strict=True):
        assert tiny.same(old, tiny.state(one.network)) == [], "a teacher has moved"


@pytest.mark.parametrize("name", SCHEMES)
def test_a_training_that_is_killed_goes_on_with_the_same_tensors(
    name: str, data: Decoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = itertools.count()
    monkeypatch.setattr(loop, "validation_score", lambda network, data: next(looks) / 100)
    taught, settings, left = SCHEMES[name].teachers != "none", tiny.training(epochs=2), []
    for dies in (False, True):
        file = f"{name} {dies}"
        if dies:
            given = build(setup(data, tmp_path, {"scheme": name}, taught=taught))
            with pytest.raises(tiny.Killed):
                loop.fit(tiny.Watched(given, tiny.die_at(4)), data, settings, tmp_path, file)
        scheme = build(setup(data, tmp_path, {"scheme": name}, taught=taught))
        loop.fit(scheme, data, settings, tmp_path, file)
        left.append([tiny.state(player.network) for player in scheme.players.values()])
    for one, other in zip(*left, strict=True):
        assert tiny.same(one, other) == []


@pytest.mark.parametrize("name", SCHEMES)
def test_an_entry_says_what_a_user_must_know(name: str) -> None:
    entry = SCHEMES[name]
    assert entry.paper and entry.when and entry.cost
    assert entry.keys <= TAUGHT
    assert set(Distill.model_fields) >= TAUGHT
    parameters = inspect.signature(entry.make).parameters.values()
    assert {p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY} <= set(KINDS)
    assert len(inspect.getdoc(entry.make) or "") > 40


def test_a_peer_of_a_trained_student_is_its_copy_in_float(data: Decoded, tmp_path: Path) -> None:
    given = setup(data, tmp_path, {"scheme": "mutual"}, "grid")
    peer = build(given).players["peer 1"].network
    assert isinstance(peer, Model)
    assert tiny.same(tiny.state(given.like), tiny.state(peer)) == []
    assert peer is not given.like
    with pytest.raises(Refusal, match="a peer of a trained student is a copy of it"):
        build(setup(data, tmp_path, {"scheme": {"name": "mutual", "peers": ["resnet8"]}}, "grid"))


def test_without_a_teacher_the_labels_alone_teach(data: Decoded, tmp_path: Path) -> None:
    """Offline distillation without a teacher is the supervised training, to the bit."""
    from pipeline.schemes.supervised import Supervised

    given = setup(data, tmp_path, {}, taught=False)
    other = tiny.model(tiny.NARROW, seed=1)
    loop.fit(build(given), data, tiny.training(epochs=2), tmp_path, "one")
    loop.fit(Supervised(other, tiny.labels(0.0)), data, tiny.training(epochs=2), tmp_path, "two")
    assert tiny.same(tiny.state(given.student), tiny.state(other)) == []


def test_the_key_of_a_stage_names_the_scheme_and_its_networks() -> None:
    section = Distill.model_validate({"scheme": {"name": "mutual", "peers": ["resnet8", "timm/x"]}})
    assert taught_by(section) >= {"mutual", "resnet8", "timm"}
    assert "mutual" not in taught_by(Distill())


class Halved(Scheme):
    """A toy: half of the squared logits, and nothing else."""

    def __init__(self, setup: Setup, share: float) -> None:
        self.players, self.share = {"student": Player(setup.student)}, share

    def phases(self, progress: float) -> list[Phase]:
        return [Phase(("student",), self.losses)]

    def losses(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        return {"student": self.share * self.players["student"].network(batch.images)[0].square().mean()}


def halved(setup: Setup, *, share: float = 0.5) -> Halved:
    return Halved(setup, share)


def test_a_scheme_is_added_by_an_entry(
    data: Decoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCHEMES, "halved", Entry(halved, "nobody", "never", "none", "none", frozenset()))
    left = []
    for share in (5.0, 0.0):
        given = setup(data, tmp_path, {"scheme": {"name": "halved", "share": share}})
        run = loop.Run(build(given), data, tiny.training(epochs=1), tmp_path / "here.pt")
        run.epoch(0, "here")
        left.append(given.student(tiny.pictures(8))[0].square().mean().item())
    assert left[0] < 0.8 * left[1], "the recipe's own number counts"
    with pytest.raises(Refusal, match=r"halved\.share must be float"):
        build(setup(data, tmp_path, {"scheme": {"name": "halved", "share": "much"}}))
