"""The losses of relations and of flow, each against a slow, plain restatement of its equation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the losses are torch's")

from torch import nn

from pipeline.losses.step import Step
from pipeline.models.tapped_model import Outputs
from support import tiny
from support.slow_relations import LOOKS, SLOW, a_step, each, loss_for, says
from support.tiny import one_thread  # noqa: F401  (one thread for every test here)

SETTINGS: list[tuple[str, dict[str, float]]] = [
    *((name, {}) for name in SLOW),
    ("cc", {"gamma": 0.9, "order": 3}),
    ("cc", {"order": 1}),
    ("rkd", {"distance": 3.0, "angle": 0.0}),
    ("rkd", {"distance": 0.0, "angle": 2.0}),
    ("irg", {"vertices": 2.0, "edges": 0.0, "transformation": 0.0}),
    ("irg", {"vertices": 0.0, "edges": 3.0, "transformation": 1.0}),
    ("category", {"intra": 1.0, "inter": 0.0}),
    ("category", {"intra": 0.0, "inter": 1.0}),
]


def batch_for(name: str, seed: int, look: str = "as they are") -> Step:
    """fsp wants equal widths."""
    return a_step(tiny.NARROW if name == "fsp" else tiny.WIDE, seed, look)


@pytest.mark.parametrize(("name", "arguments"), SETTINGS)
@pytest.mark.parametrize("seed", [1, 7])
def test_loss_is_its_equation(name: str, arguments: dict[str, float], seed: int) -> None:
    here = batch_for(name, seed)
    loss = loss_for(name, here, **arguments)
    slow = SLOW[name](loss, here, **arguments)
    assert slow > 0
    assert loss(here).item() == pytest.approx(slow, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "look"), [c for c in product(SLOW, list(LOOKS)[1:]) if c != ("fsp", "one stage")]
)
def test_loss_is_its_equation_however_the_batch_looks(name: str, look: str) -> None:
    here = batch_for(name, 3, look)
    loss = loss_for(name, here)
    assert loss(here).item() == pytest.approx(SLOW[name](loss, here), rel=1e-9)


def test_images_that_coincide_are_not_moved_by_their_distance() -> None:
    here = tiny.freed(batch_for("rkd", 1, "all alike"))
    value = loss_for("rkd", here, angle=0.0)(here)
    assert value.item() > 1
    assert not any(g.any() for g in tiny.gradients(value, here))


def test_ickd_at_rest_uses_the_statistics_it_has_learnt() -> None:
    here = batch_for("ickd", 1)
    loss = loss_for("ickd", here).eval()
    assert loss(here).item() == pytest.approx(SLOW["ickd"](loss, here), rel=1e-9)
    assert loss.train()(here).item() != pytest.approx(SLOW["ickd"](loss.eval(), here), rel=1e-3)


def test_category_sees_the_centres_of_the_classes_present() -> None:
    """Images alone in their class lie at its centre; of one class there is no other centre."""
    here = batch_for("category", 1)
    alone = dataclasses.replace(here, labels=torch.arange(5))
    assert loss_for("category", here, inter=0.0)(alone).item() < 1e-20
    one = dataclasses.replace(here, labels=torch.full((5,), 3))
    assert loss_for("category", here, intra=0.0)(one).item() < 1e-20
    for case in (alone, one):
        loss = loss_for("category", here)
        assert loss(case).item() == pytest.approx(SLOW["category"](loss, case), rel=1e-9)


def do_nothing(loss: Any) -> Any:
    """With adapters that hand on what they get; a batch-norm at rest then only scales by a hair."""
    for part in loss.eval().modules():
        if isinstance(part, nn.Conv2d):
            nn.init.dirac_(part.weight)
        if isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()
    return loss


@pytest.mark.parametrize("name", SLOW)
def test_loss_vanishes_where_the_student_is_the_teacher(name: str) -> None:
    apart = batch_for(name, 1)
    here = tiny.freed(says(apart, apart.teacher, apart.teacher))
    apart = tiny.freed(says(here, each(here.teacher, lambda x: x + 0.1 * torch.rand_like(x)), here.teacher))
    loss = loss_for(name, here)
    if isinstance(loss, nn.Module):
        do_nothing(loss)
    nothing, something = loss(here), loss(apart)
    assert abs(nothing.item()) < 1e-9 * something.item()
    slopes = [
        max(float(g.abs().max()) for g in tiny.gradients(*at)) for at in ((nothing, here), (something, apart))
    ]
    assert slopes[0] < 1e-4 * slopes[1]


def twice(step: Step) -> Step:
    """The batch, and the batch once more."""
    again = lambda x: torch.cat([x, x])
    changes = {key: again(getattr(step, key)) for key in ("images", "labels", "indices")}
    return says(dataclasses.replace(step, **changes), each(step.student, again), each(step.teacher, again))


def enlarged(out: Outputs) -> Outputs:
    large = lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return out._replace(stages=tuple(large(x) for x in out.stages))


def tripled(out: Outputs) -> Outputs:
    return each(out, lambda x: 3 * x)


CHANGES: dict[str, Callable[[Step], Step]] = {
    "the batch twice": twice,
    "the student's pixels doubled": lambda step: says(step, enlarged(step.student), step.teacher),
    "all pixels doubled": lambda step: says(step, enlarged(step.student), enlarged(step.teacher)),
    "the student's answers × 3": lambda step: says(step, tripled(step.student), step.teacher),
    "the teacher's answers × 3": lambda step: says(step, step.student, tripled(step.teacher)),
    "all answers × 3": lambda step: says(step, tripled(step.student), tripled(step.teacher)),
}
STRUCTURE, ANSWERS = {"vertices": 0.0}, {"edges": 0.0, "transformation": 0.0}
SCALES: list[tuple[str, dict[str, float], str, float]] = [
    # Rows at unit length and shares of a row: both fall as the rows grow longer.
    ("sp", {}, "the batch twice", 1 / 2),
    ("pkt", {}, "the batch twice", 1 / 2),
    *((name, {}, "the batch twice", 1.0) for name in ("cc", "rkd", "irg", "category", "fsp", "ickd")),
    *((name, {}, "the student's pixels doubled", 1.0) for name in ("sp", "irg", "category", "fsp", "ickd")),
    *((name, {}, "all pixels doubled", 1.0) for name in ("sp", "irg", "category", "fsp", "ickd")),
    *((name, {}, "the student's answers × 3", 1.0) for name in ("sp", "cc", "rkd", "pkt")),
    *((name, {}, "the teacher's answers × 3", 1.0) for name in ("sp", "cc", "rkd", "pkt", "ickd")),
    ("irg", STRUCTURE, "the student's answers × 3", 1.0),
    ("irg", STRUCTURE, "the teacher's answers × 3", 1.0),
    ("irg", ANSWERS, "all answers × 3", 9.0),
    ("category", {"intra": 0.0}, "the student's answers × 3", 1.0),
    ("category", {"intra": 0.0}, "the teacher's answers × 3", 1.0),
    ("category", {"inter": 0.0}, "all answers × 3", 9.0),
    ("fsp", {}, "all answers × 3", 81.0),
]


@pytest.mark.parametrize(("name", "arguments", "change", "factor"), SCALES)
def test_scale_of_the_loss(name: str, arguments: dict[str, float], change: str, factor: float) -> None:
    here = batch_for(name, 1)
    there = CHANGES[change](here)
    before, after = loss_for(name, here, **arguments)(here), loss_for(name, there, **arguments)(there)
    assert before.item() > 0
    rel = 1e-4 if name == "pkt" else 1e-9  # pkt's ε is not scaled
    assert after.item() == pytest.approx(factor * before.item(), rel=rel)
