"""The losses on answers: the equation of each, where it vanishes, what it does not mind, whom it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the losses are torch's")

from torch import Tensor

from pipeline.losses import bind_losses
from pipeline.losses.step import Step
from pipeline.models.split_model import Parts
from pipeline.models.tapped_model import Outputs
from pipeline.recipe.schema import Loss
from support import tiny
from support.slow_answers import (
    EACH,
    in_training,
    mixed,
    pair,
    plain,
    saying,
    sharp,
    slow,
    spread,
    step_of,
    temperatures,
    ties,
    unix,
)
from support.tiny import CLASSES, bound, one_thread  # noqa: F401  (one thread for every test here)

NAMES = [*EACH, "dist", "dtd", "unix"]
ON_LOGITS = [name for name in NAMES if name != "unix"]  # the networks are asked nothing more


@pytest.fixture(autouse=True)
def no_gradient_unless_asked() -> Iterator[None]:
    with torch.no_grad():
        yield


def value(name: str, step: Step, **arguments: float) -> float:
    return float(bound(name, *pair(), **arguments)(step))


OTHERS: list[tuple[str, dict[str, float]]] = [
    ("dkd", {"alpha": 2.0, "beta": 0.5, "temperature": 1.0}),
    ("dist", {"beta": 2.0, "gamma": 0.5, "temperature": 4.0}),
    ("logit-std", {"temperature": 5.0}),
    ("eskd", {"temperature": 1.5}),
    ("conditional", {"temperature": 1.5}),
    ("ka-shift", {"temperature": 1.5}),
    ("ka-smooth", {"correct": 0.7, "temperature": 2.0}),
    ("dtd", {"temperature": 1.5, "beta": 3.0, "gamma": 0.5}),  # some would fall below 1
    ("dtd", {"temperature": 8.0, "beta": -2.0, "gamma": 1.0}),
    ("tf-kd", {"correct": 0.99, "temperature": 1.0}),
    ("unix", {"keep": 0.5, "middle": 0.2, "steepness": 3.0, "temperature": 2.0}),
    ("unix", {"keep": 0.01}),
]


@pytest.mark.parametrize("situation", [plain, sharp, in_training, ties])
@pytest.mark.parametrize(("name", "arguments"), [*((name, {}) for name in NAMES), *OTHERS])
def test_loss_is_the_paper_s_equation(name: str, arguments: dict[str, float], situation: Any) -> None:
    step = situation()
    found = value(name, step, **arguments)
    assert found == pytest.approx(slow(name, step, **arguments), rel=1e-9)


@pytest.mark.parametrize(("name", "size"), [("dist", 1e-8), ("logit-std", 1e-8), ("dtd", 0.0)])
def test_answers_that_hardly_vary_are_divided_by_the_least_size(name: str, size: float) -> None:
    step = plain()
    step = saying(step, size * step.student.logits, step.teacher.logits)
    assert value(name, step) == pytest.approx(slow(name, step), rel=1e-7)


def test_unix_draws_anew_in_each_step() -> None:
    step, draws = plain(), torch.Generator().manual_seed(0)
    found = [value("unix", step) for _ in range(3)]
    assert found == pytest.approx([unix(step, draws) for _ in range(3)], rel=1e-9)
    assert len({round(one, 9) for one in found}) == 3


Change = Callable[[Tensor], Tensor]
same: Change = lambda z: z
shifted: Change = lambda z: z + torch.arange(len(z))[:, None]
# What the student may make of the teacher's logits without a loss, where the teacher is right.
VANISHING: list[tuple[str, dict[str, float], Change]] = [
    ("logits", {}, same),
    ("dkd", {}, shifted),
    ("dist", {}, lambda z: (0.3 * z.softmax(1) + 0.7 / CLASSES).log()),
    ("logit-std", {}, lambda z: 3 * shifted(z)),
    ("eskd", {}, shifted),
    ("conditional", {}, shifted),
    ("ka-shift", {}, shifted),
    ("ka-smooth", {}, shifted),
    ("dtd", {}, shifted),
    ("dtd", {"gamma": 0.5}, same),  # a cosine beyond 1 by rounding has no root
]


@pytest.mark.parametrize(("name", "arguments", "change"), VANISHING)
def test_loss_and_gradient_vanish_at_the_teacher(name: str, arguments: Any, change: Change) -> None:
    step = plain()
    theirs = step.teacher.logits
    step = tiny.freed(saying(replace(step, labels=theirs.argmax(1)), change(theirs), theirs))
    loss = bound(name, *pair(), **arguments)
    with torch.enable_grad():
        found = loss(step)
    assert abs(float(found)) < 1e-12
    assert max(float(grad.abs().max()) for grad in tiny.gradients(found, step)) < 1e-9


def test_unix_vanishes_for_the_teacher_s_twin() -> None:
    teacher = pair()[1]
    with torch.enable_grad():
        found = bound("unix", teacher, teacher)(step_of(teacher, teacher))
    assert abs(found.item()) < 1e-12
    assert max(float(g.abs().max()) for g in torch.autograd.grad(found, list(teacher.parameters()))) < 1e-9


def test_tf_kd_vanishes_at_the_teacher_that_it_makes_up() -> None:
    step = plain()
    virtual = torch.tensor([spread(CLASSES, y, 0.9) for y in step.labels.tolist()], dtype=torch.float64)
    assert abs(value("tf-kd", saying(step, virtual / 20, step.teacher.logits))) < 1e-12


# Where a loss is kd at the same temperature; "right": of a teacher that is never wrong.
LIKE_KD: list[tuple[str, dict[str, float], str]] = [
    ("eskd", {}, "any"),
    ("conditional", {}, "right"),
    ("ka-shift", {}, "right"),
    ("ka-smooth", {}, "right"),
    ("dtd", {"beta": 0.0}, "any"),
    ("unix", {"keep": 1.0, "middle": 100.0}, "any"),  # nothing is mixed in
]


@pytest.mark.parametrize(("name", "arguments", "teacher"), LIKE_KD)
def test_loss_is_kd(name: str, arguments: dict[str, float], teacher: str) -> None:
    step = sharp()
    if teacher == "right":
        step = replace(step, labels=step.teacher.logits.argmax(1))
    expected = value("kd", step, temperature=3.0)
    assert value(name, step, temperature=3.0, **arguments) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd_s_terms_add_up_to_kd_where_beta_is_the_teacher_s_rest(temperature: float) -> None:
    step, total = sharp(), 0.0
    for i, label in enumerate(step.labels.tolist()):
        one = slice(i, i + 1)
        only = replace(step, images=step.images[one], labels=step.labels[one])
        only = saying(only, step.student.logits[one], step.teacher.logits[one])
        beta = 1 - float((step.teacher.logits[i] / temperature).softmax(0)[label])
        total += value("dkd", only, alpha=1.0, beta=beta, temperature=temperature)
    expected = value("kd", step, temperature=temperature)
    assert total / len(step.images) == pytest.approx(expected, rel=1e-9)


def test_half_of_logits_is_the_limit_of_kd() -> None:
    step = sharp()
    ours, theirs = (z - z.mean(1, keepdim=True) for z in (step.student.logits, step.teacher.logits))
    step = saying(step, ours, theirs)
    assert value("kd", step, temperature=1e4) == pytest.approx(0.5 * value("logits", step), rel=1e-3)


Reworked = Callable[[Step], Step]


def logits_by(ours: Change = same, theirs: Change = same) -> Reworked:
    return lambda step: saying(step, ours(step.student.logits), theirs(step.teacher.logits))


def twice(step: Step) -> Step:
    double = lambda x: torch.cat((x, x))
    answers = double(step.student.logits), double(step.teacher.logits)
    return saying(replace(step, images=double(step.images), labels=double(step.labels)), *answers)


def classes_turned(step: Step) -> Step:
    turned = logits_by(lambda z: z.flip(1), lambda z: z.flip(1))(step)
    return replace(turned, labels=CLASSES - 1 - step.labels)


triple: Change = lambda z: 3 * z
# A number added to all logits of an image changes nothing.
SHIFT_FREE = [name for name in ON_LOGITS if name not in ("logits", "dtd")]
# The loss, what is done to the step, its factor.
SCALES: list[tuple[str, Reworked, float]] = [
    *((name, twice, 1) for name in ON_LOGITS),  # unix draws other partners then
    *((name, classes_turned, 1) for name in ON_LOGITS),
    *((name, logits_by(shifted, lambda z: z + 7), 1) for name in SHIFT_FREE),
    ("logits", logits_by(triple, triple), 9),
    ("logit-std", logits_by(triple), 1),
    *((name, logits_by(theirs=triple), 1) for name in ("logit-std", "hard-target", "tf-kd")),
]


@pytest.mark.parametrize(("name", "rework", "factor"), SCALES)
def test_loss_has_the_factor_of_its_equation(name: str, rework: Reworked, factor: float) -> None:
    step = sharp()
    assert value(name, rework(step)) == pytest.approx(factor * value(name, step), rel=1e-9)


@pytest.mark.parametrize("name", ["dkd", "dist", "eskd", "ka-shift"])
def test_loss_keeps_the_size_of_its_gradient_as_the_temperature_grows_with_the_logits(name: str) -> None:
    step = sharp()
    grown = value(name, logits_by(triple, triple)(step), temperature=6.0)
    assert grown == pytest.approx(9 * value(name, step, temperature=2.0), rel=1e-9)


class Asked(Parts):
    """A network that remembers what it was asked."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts.network, parts.like, parts.who)
        self.images: list[Tensor] = []

    def __call__(self, images: Tensor) -> Outputs:
        self.images.append(images)
        return super().__call__(images)

    def stage(self, index: int, x: Tensor) -> Tensor:
        raise AssertionError("a loss on answers asks for no stage")

    head = stage  # type: ignore[assignment]


def asked_by(name: str, step: Step, **arguments: float) -> tuple[list[Tensor], list[Tensor]]:
    """The images that a loss asks the student about, and the teacher."""
    student, teacher = Asked(step.student_network), Asked(step.teacher_network)
    value(name, replace(step, student_network=student, teacher_network=teacher), **arguments)
    return student.images, teacher.images


@pytest.mark.parametrize("name", ON_LOGITS)
def test_the_teacher_is_asked_once_about_the_batch_and_not_at_all_by_tf_kd(name: str) -> None:
    step = plain()
    student, teacher = asked_by(name, step)
    assert len(teacher) == (0 if name == "tf-kd" else 1)
    assert all(torch.equal(images, step.images) for images in teacher)
    assert student == []


@pytest.mark.parametrize(("keep", "count", "kept"), [(0.75, 6, 5), (0.75, 4, 3), (0.5, 5, 3), (1.0, 4, 4)])
def test_unix_asks_both_once_about_the_mixed_images_alone(keep: float, count: int, kept: int) -> None:
    step = step_of(*pair(), count=count)
    expected = mixed(step, torch.Generator().manual_seed(0), keep=keep)
    for (images,) in asked_by("unix", step, keep=keep):
        assert len(images) == kept
        assert torch.allclose(images, expected, rtol=0, atol=1e-12)


def test_dtd_s_temperatures_are_held_fixed() -> None:
    step = tiny.freed(sharp())
    loss = bound("dtd", *pair(), beta=3.0)
    with torch.enable_grad():
        found = loss(step)
    ours, theirs = step.student.logits.detach(), step.teacher.logits
    warmth = torch.tensor(temperatures(ours.tolist(), theirs.tolist(), beta=3.0), dtype=ours.dtype)[:, None]
    # Hinton et al. 2015, eq. 2, times T²: what is left when T does not depend on the logits.
    expected = warmth * ((ours / warmth).softmax(1) - (theirs / warmth).softmax(1)) / len(ours)
    assert torch.allclose(tiny.gradients(found, step)[0], expected, rtol=1e-9, atol=0)


def test_unix_teaches_through_the_mixed_images_and_not_through_the_order() -> None:
    student, teacher = pair(5, 6.0)
    step = tiny.freed(step_of(student, teacher))
    with torch.enable_grad():
        found = bound("unix", student, teacher)(step)
    bias = student.network.fc.bias  # type: ignore[union-attr]
    (slope,) = torch.autograd.grad(found, [bias], retain_graph=True)
    assert not any(grad.any() for grad in tiny.gradients(found, step))
    x = mixed(step, torch.Generator().manual_seed(0))
    p_s, p_t = ((ask(x).logits / 4).softmax(1) for ask in (step.student_network, step.teacher_network))
    assert torch.allclose(slope, 4 * (p_s - p_t).mean(0), rtol=1e-9, atol=1e-12)


COURSES = {
    "eskd": {0.0: 0.9, 0.66: 0.9, 0.67: 0.0, 0.99: 0.0},
    "dkd": {0.0: 0.0, 5 / 240: 0.25, 20 / 240: 1.0, 0.99: 1.0},
}


@pytest.mark.parametrize("name", COURSES)
def test_weight_follows_the_paper_s_schedule(name: str) -> None:
    (term,) = bind_losses([Loss(name=name)], tiny.shapes_of(*pair()), "here")
    assert {at: term.weight_at(at) for at in COURSES[name]} == pytest.approx(COURSES[name])
