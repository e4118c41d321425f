"""The catalogue of losses: what every loss must do, and each against a slow restatement of its paper."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import re
from functools import cache

import pytest

torch = pytest.importorskip("torch", reason="the losses are torch's")

from torch import Tensor, nn

from pipeline.losses import LOSSES, Term, bind, bind_losses, modules_of, shapes
from pipeline.losses.feature_shapes import Adapter, pairs, resize
from pipeline.losses.step import Entry, Step
from pipeline.models.catalogue import build
from pipeline.models.tapped_model import Model, Outputs
from pipeline.recipe.schema import Loss
from support import tiny
from support.tiny import bound, one_thread  # noqa: F401  (one thread for every test here)
from targets.errors import Refusal

# A method in phases teaches one part at a time; what it learns beside must be taught in one of them.
PHASES = {"stage-by-stage": (0.1, 0.3, 0.9)}
# Where the loss is no function of the student's answers alone, their slope is not its gradient.
NO_SLOPE = {
    "dtd": "the temperatures depend on the student, and are held fixed",
    "unix": "it asks the student again, about mixed images",
    "mgd": "which channels match may jump",
    "crd": "what the first batch sets depends on the student, and is held fixed",
    "srkd": "the targets depend on the student, and are held fixed",
    "inherited": "the head's target depends on the student, and is held fixed",
    "stage-by-stage": "a stage is run again, fed with what is held fixed",
    "lit": "the student's stages are run again, fed with the teacher's features",
}


@pytest.fixture(scope="module")
def student() -> Model:
    return tiny.model(tiny.NARROW, seed=1)


@pytest.fixture(scope="module")
def teacher() -> Model:
    return tiny.model(tiny.WIDE, seed=2)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_teaches_the_student_and_not_the_teacher(name: str) -> None:
    student, teacher = tiny.model(tiny.NARROW, seed=1).train(), tiny.teacher_for(name)
    loss = bound(name, student, teacher)
    value = loss(tiny.step(student, teacher))
    assert value.shape == ()
    assert 0 < value.item() < math.inf
    value.backward()
    found = [p.grad for p in student.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in found)
    assert sum(grad.abs().sum() for grad in found) > 0
    assert [key for key, p in teacher.named_parameters() if p.grad is not None] == []
    for progress in PHASES.get(name, ()):
        loss(tiny.step(student, teacher, progress=progress)).backward()
    beside = modules_of([Term(loss, 1.0, 0.0, 1.0)])
    assert [key for key, p in beside.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in NO_SLOPE])
def test_gradient_is_the_slope_of_the_loss(name: str) -> None:
    student, teacher = tiny.model(tiny.NARROW, seed=1).double(), tiny.teacher_for(name).double()
    made = bound(name, student, teacher)
    loss = made.double().eval() if isinstance(made, nn.Module) else made
    here = tiny.freed(tiny.taught(tiny.step(student, teacher, count=3, dtype=torch.float64)))
    value = copy.deepcopy(loss)(here)  # a copy each time: some remember what they have seen
    assert value.dtype == torch.float64
    slopes = tiny.gradients(value, here)
    # The steepest way, disturbed: a slope of size, in a direction of no special sort.
    torch.manual_seed(0)
    way = [g / (g.norm() + 1e-30) + 0.1 * torch.randn_like(g) / g.numel() ** 0.5 for g in slopes]

    def beside(amount: float) -> float:
        moved = [x.detach() + amount * w for x, w in zip(tiny.leaves(here), way, strict=True)]
        outputs = Outputs(moved[0], moved[1], tuple(moved[2:]))
        here.generator.manual_seed(0)
        with torch.no_grad():
            return float(copy.deepcopy(loss)(dataclasses.replace(here, student=outputs)))

    expected = sum(float((g * w).sum()) for g, w in zip(slopes, way, strict=True))
    assert (beside(1e-5) - beside(-1e-5)) / 2e-5 == pytest.approx(expected, rel=1e-5)
    assert expected > 0


# Other depths, widths, sides and numbers of stages, either way round.
STRANGERS = [("resnet8", "vgg8"), ("vgg8", "resnet8"), ("wrn_16_1", "mobilenet_v3_small")]


@cache
def strangers(student: str, teacher: str) -> tuple[Model, Model]:
    torch.manual_seed(0)
    made = [tiny.wrap(build(name, None, tiny.CLASSES, {}, "here").network, 32) for name in (student, teacher)]
    return made[0], made[1]


@pytest.mark.parametrize("names", STRANGERS, ids="-".join)
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "fsp"])
def test_every_loss_takes_any_pair_of_networks(name: str, names: tuple[str, str]) -> None:
    student, teacher = strangers(*names)
    torch.manual_seed(0)
    loss = bind(name, {}, shapes(student, teacher, (3, 32, 32), images=64), "here")
    value = loss(tiny.step(student, teacher, count=4, side=32))
    assert value.shape == () and value.isfinite() and value > 0
    assert any(
        g is not None for g in torch.autograd.grad(value, list(student.parameters()), allow_unused=True)
    )


def test_fsp_refuses_unequal_widths_before_training(student: Model, teacher: Model) -> None:
    with pytest.raises(Refusal, match=r"here: fsp: both networks need the same widths.*\(8, 12, 20\)"):
        bound("fsp", student, teacher)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_names_its_source(name: str) -> None:
    text = inspect.getdoc(LOSSES[name].loss) or ""
    assert re.search(r"\b(19|20)\d\d\b|year unknown", text), f"{name}: no year in its docstring"
    assert re.search(r"arXiv|et al|paper", text), f"{name}: no source in its docstring"


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("trouble", ["huge logits", "dead features"])
def test_every_loss_stays_finite_in_bfloat16(name: str, trouble: str, student: Model) -> None:
    teacher = tiny.teacher_for(name)
    loss = bound(name, student, teacher)
    here = tiny.step(student, teacher)
    signs = torch.where(torch.arange(tiny.CLASSES) % 2 == 0, 1e4, -1e4).expand_as(here.teacher.logits)
    if trouble == "huge logits":
        here = tiny.freed(tiny.taught(here, logits=signs.bfloat16()), lambda logits: -signs, torch.bfloat16)
    else:
        nothing = Outputs(
            *(torch.zeros_like(x) for x in here.student[:2]), tuple(map(torch.zeros_like, here.student[2]))
        )
        here = tiny.freed(dataclasses.replace(here, student=nothing), dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(here)
    assert math.isfinite(value.item())
    assert all(grad.isfinite().all() for grad in tiny.gradients(value, here))


@pytest.mark.parametrize("name", LOSSES)
def test_wrong_hyper_parameters_are_refused_with_the_nearest(name: str, student: Model) -> None:
    teacher = tiny.teacher_for(name)
    parameters = inspect.signature(LOSSES[name].loss).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for key in known:
        with pytest.raises(Refusal, match=f"here: .*{name}.*'{key}_'.*did you mean '{key}'"):
            bound(name, student, teacher, **{f"{key}_": 1})
        with pytest.raises(Refusal, match=f"here: {name}.{key} must be "):
            bound(name, student, teacher, **{key: [1]})
    with pytest.raises(Refusal, match=r"'qqqq'; known: "):
        bound(name, student, teacher, qqqq=1)


def test_unknown_losses_and_stages_are_refused(student: Model, teacher: Model) -> None:
    with pytest.raises(Refusal, match=r"here: no loss named 'fitnets'; did you mean 'fitnet'\?"):
        bound("fitnets", student, teacher)
    with pytest.raises(Refusal, match="here: fitnet: stage 3 is asked for, but there are 3 pairs"):
        bound("fitnet", student, teacher, stage=3)


def test_what_is_missing_or_of_the_wrong_kind_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, student: Model, teacher: Model
) -> None:
    def needy(step: Step, *, margin: float) -> Tensor:
        return step.student.logits.sum() * margin

    monkeypatch.setitem(LOSSES, "needy", Entry(needy, 1.0, "response", "nobody"))
    with pytest.raises(Refusal, match="margin"):
        bound("needy", student, teacher)
    with pytest.raises(Refusal, match="temperature"):
        bound("kd", student, teacher, temperature="warm")


def test_a_weight_is_the_recipe_s_or_the_catalogue_s(student: Model, teacher: Model) -> None:
    lines = [
        Loss(name="kd"),
        Loss(name="at", weight=0.0),
        Loss.model_validate({"name": "kd", "temperature": 2}),
    ]
    losses = bind_losses(lines, tiny.shapes_of(student, teacher), "here")
    assert [term.weight for term in losses] == [0.9, 0.0, 0.9]
    here = tiny.step(student, teacher)
    assert losses[2].loss(here).item() == bound("kd", student, teacher, temperature=2.0)(here).item()


def test_stages_are_paired_from_the_last_and_brought_to_one_size() -> None:
    assert pairs(3, 3) == [(0, 0), (1, 1), (2, 2)]
    assert pairs(2, 4) == [(0, 2), (1, 3)]
    assert pairs(5, 3) == [(2, 0), (3, 1), (4, 2)]
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert resize(x, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert resize(resize(x, (2, 2)), (4, 4))[0, 0, 1].tolist() == [2.5, 2.5, 4.5, 4.5]
    assert Adapter((1, 4, 4), (5, 2, 2))(x).shape == (1, 5, 2, 2)
