"""Schemes: several teachers, the course of a weight, and every method for some steps, float and on a grid."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the schemes are torch's")

from torch import Tensor, nn

from pipeline.data.batches import plain_batches
from pipeline.data.decoded import TRAIN, Decoded
from pipeline.losses import LOSSES, Term, bind_losses
from pipeline.models.tapped_model import Model
from pipeline.plan import plan
from pipeline.recipe.read import read_recipe
from pipeline.recipe.schema import Distill, Loss
from pipeline.schemes.base import Setup
from pipeline.schemes.offline import Guide, Offline, offline
from pipeline.training import loop
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal
from targets.spec.profile import read_profile


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"), classes=tiny.CLASSES)


def recipe(**more: object) -> Distill:
    short = {"epochs": 1, "batch": 8, "lr": 0.01, "warmup": 0.0, "precision": "float32"}
    return Distill.model_validate({**short, **more})


@pytest.mark.parametrize("form", ["float", "grid"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_method_trains_from_a_recipe(
    name: str, form: str, data: Decoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What was trained is kept, also where one epoch has made it worse.
    looks = itertools.count()
    monkeypatch.setattr(loop, "validation_score", lambda network, data: next(looks) / 100)
    like = tiny.model(tiny.NARROW, seed=1)
    student: nn.Module = like if form == "float" else tiny.graph()
    teacher = tiny.teacher_for(name)
    before, taught = tiny.state(student), tiny.state(teacher)
    scheme = offline(
        Setup(
            student,
            like,
            [teacher],
            data,
            recipe(label_weight=0.0, loss=[{"name": name}]),
            "distill",
            tmp_path,
        )
    )
    history = loop.fit(scheme, data, tiny.training(epochs=1), tmp_path, name)
    assert math.isfinite(history.loss[0])
    moved = tiny.same(before, tiny.state(student))
    assert any("conv" in tensor and "weight" in tensor for tensor in moved) or "fc.weight" in str(moved)
    assert tiny.same(taught, tiny.state(teacher)) == [], "the teacher has moved"


def teachers(count: int) -> list[Model]:
    return [tiny.model(tiny.WIDE, seed=seed) for seed in range(2, 2 + count)]


def gradient(loss: Tensor, model: nn.Module) -> Tensor:
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None])


def test_kd_with_several_teachers_pulls_to_the_mean_of_their_soft_targets(
    data: Decoded, tmp_path: Path
) -> None:
    student, guides = tiny.model(tiny.NARROW, seed=1), teachers(3)
    task = recipe(label_weight=0.0, shares=(1, 1, 2), loss=[{"name": "kd", "weight": 1.0}])
    scheme, batch = (
        offline(Setup(student, student, guides, data, task, "distill", tmp_path)),
        next(plain_batches(data, data.part(TRAIN), 6)),
    )
    ours = gradient(tiny.losses(scheme, batch, 0.5)["student"], student)
    with torch.no_grad():
        soft = [(guide(batch.images)[0] / 4).softmax(1) for guide in guides]
    mean = (soft[0] + soft[1] + 2 * soft[2]) / 4
    plain = nn.functional.kl_div((student(batch.images)[0] / 4).log_softmax(1), mean, reduction="batchmean")
    assert torch.allclose(ours, gradient(16 * plain, student), atol=1e-6)


def test_with_random_a_batch_has_one_teacher_drawn_by_share(data: Decoded, tmp_path: Path) -> None:
    student, guides = tiny.model(tiny.NARROW, seed=1), teachers(2)
    scheme = offline(
        Setup(student, student, guides, data, recipe(teachers="random", shares=(3, 1)), "distill", tmp_path)
    )
    for number, guide in enumerate(scheme.guides):
        guide.terms[:] = [Term(lambda step, number=number: torch.tensor(float(number)), 1.0, 0.0, 1.0)]
    scheme.labels, batch = (
        tiny.labels(0.0, 0.0),
        next(plain_batches(data, data.part(TRAIN), 4)),
    )
    generator = torch.Generator().manual_seed(0)
    drawn = [tiny.losses(scheme, batch, 0.5, generator)["student"].item() for _ in range(400)]
    assert set(drawn) == {0.0, 1.0}
    assert sum(drawn) / 400 == pytest.approx(0.25, abs=0.08)


def test_shares_must_be_as_many_as_teachers(data: Decoded, tmp_path: Path) -> None:
    student = tiny.model(tiny.NARROW, seed=1)
    with pytest.raises(Refusal, match=r"distill\.shares: 2 shares for 1 teachers"):
        offline(Setup(student, student, teachers(1), data, recipe(shares=(1, 1)), "distill", tmp_path))


@pytest.mark.parametrize(
    ("line", "progress", "expected"),
    [
        ({}, 0.0, 2.0),
        ({"ramp": 0.5}, 0.0, 0.0),
        ({"ramp": 0.5}, 0.25, 1.0),
        ({"ramp": 0.5}, 0.75, 2.0),
        ({"stop": 0.6}, 0.59, 2.0),
        ({"stop": 0.6}, 0.6, 0.0),
        ({"stop": 1.0}, 1.0, 0.0),
    ],
)
def test_a_weight_has_a_course(line: dict[str, float], progress: float, expected: float) -> None:
    shapes = tiny.shapes_of(tiny.model(), tiny.model())
    (term,) = bind_losses([Loss.model_validate({"name": "kd", "weight": 2.0, **line})], shapes, "here")
    assert term.weight_at(progress) == expected


def test_a_term_of_no_weight_is_not_computed(data: Decoded) -> None:
    def never(step: object) -> Tensor:
        raise AssertionError("computed for nothing")

    student, teacher = tiny.model(tiny.NARROW, seed=1), tiny.model(tiny.WIDE, seed=2)
    terms = [Term(never, 1.0, 0.0, 0.5), Term(never, 0.0, 0.0, 1.0)]
    scheme = Offline(tiny.parts(student), [Guide(tiny.parts(teacher), terms, 1.0)], tiny.labels(0.0, 1.0))
    assert tiny.losses(scheme, next(plain_batches(data, data.part(TRAIN), 4)), 0.5)["student"] > 0


def test_more_teachers_are_stages_of_their_own(tmp_path: Path) -> None:
    text = 'version = 1\ndata = "digits"\nstudent = "resnet8"\nteacher = "resnet20"\n'
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text(text)
    two.write_text(text + '[[teachers]]\nnetwork = "resnet14"\n[distill]\nshares = [2, 1]\n')
    first, second = (
        plan(*read_recipe(str(path)), read_profile("cpu"), tmp_path / "known.json") for path in (one, two)
    )
    assert first.teachers["teacher"].key == second.teachers["teacher"].key
    assert list(second.networks["student"].parents) == ["data", "teacher", "teacher 2"]
    assert first.networks["student"].key != second.networks["student"].key
    assert len(second.stages) == len(first.stages) + 1
