"""The losses that feed a stage by hand or cut it off: each against a slow restatement, and whom it teaches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the losses are torch's")

from torch import Tensor, nn

from pipeline.losses.step import Step
from pipeline.models.tapped_model import Model
from support import tiny
from support.slowly import array, changed, met, slow_conv, slow_linear, slow_resize, stages
from support.tiny import bound, one_thread  # noqa: F401  (one thread for every test here)

CLOSE = 1e-9


class Plain(nn.Module):
    """Two stages of one convolution, with maps of 6 × 6 and 3 × 3: fewer, and of other sides and widths."""

    taps = ("first", "second")

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, 3, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 10, 3, 2, 1), nn.BatchNorm2d(10), nn.ReLU())
        self.fc = nn.Linear(10, tiny.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.first(x)).mean((2, 3)))  # type: ignore[no-any-return]


def make(kind: str, seed: int) -> Model:
    torch.manual_seed(seed)
    if kind == "plain":
        return tiny.wrap(Plain(), tiny.SIDE, seed).double()
    return tiny.model({"narrow": tiny.NARROW, "wide": tiny.WIDE}[kind], seed).double()


kept = cache(make)


def step(student: Model, teacher: Model, progress: float = 0.5) -> Step:
    return tiny.step(student, teacher, 5, torch.float64, progress)


def double(name: str, student: Model, teacher: Model) -> Any:
    return bound(name, student, teacher).double()  # type: ignore[attr-defined]


def mean_square(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return math.fsum(d * d for d in (a - b).ravel().tolist()) / a.size


def bridged(x: np.ndarray, layer: Any, like: np.ndarray) -> np.ndarray:
    """To the shape of ``like``: nothing where it is that already, else a 1×1 convolution once resized."""
    return x if x.shape == like.shape else slow_conv(slow_resize(x, like.shape[2:]), layer.project)


def ask(step: Step, back: int, x: np.ndarray) -> np.ndarray:
    """A stage of the student (−1 is the last), fed with x."""
    like = step.student_network.like
    return array(getattr(like.network, like.taps[back])(torch.from_numpy(x)))


def slow_lit(loss: Any, step: Step) -> float:
    """Koratana et al. 2019: each stage of the student between the teacher's neighbouring maps."""
    both, total = met(*stages(step)), 0.0
    for i, (s, t) in enumerate(both):
        if i > 0:
            s_before, t_before = both[i - 1]
            s = ask(step, i - len(both), bridged(t_before, loss.enter[i - 1], s_before))
        total += mean_square(bridged(s, loss.leave[i], t), t)
    return total


def slow_stage_by_stage(loss: Any, step: Step) -> float:
    """Gao et al. 2019: one stage after the other, then the classifier by the labels."""
    both = met(*stages(step))
    phase = min(math.floor(step.progress * (len(both) + 1)), len(both))
    if phase < len(both):
        s, t = both[phase]
        s = ask(step, phase - len(both), both[phase - 1][0]) if phase else s
        return mean_square(bridged(s, loss.adapt[phase], t), t)
    total = 0.0
    for z, y in zip(array(step.student.logits), step.labels.tolist(), strict=True):
        total += math.log(sum(math.exp(a) for a in z)) - z[y]
    return float(total) / len(step.labels)


def slow_inherited(loss: Any, step: Step) -> float:
    """After Chen et al. 2022: features as the teacher's, and answers as its classifier's to them."""
    ours, theirs = (net.like.network.fc for net in (step.student_network, step.teacher_network))
    p_s, p_t = array(step.student.pooled), array(step.teacher.pooled)
    lifted = slow_linear(p_s, loss.project)
    return mean_square(lifted, p_t) + mean_square(
        slow_linear(p_s, ours, bias=True), slow_linear(lifted, theirs, bias=True)
    )


SLOW: dict[str, Callable[[Any, Step], float]] = {
    "lit": slow_lit,
    "stage-by-stage": slow_stage_by_stage,
    "inherited": slow_inherited,
}
TIMES = [("lit", 0.5), ("inherited", 0.5)] + [
    ("stage-by-stage", p) for p in (0.0, 0.24, 0.25, 0.34, 0.49, 0.66, 0.67, 0.75, 1.0)
]


@pytest.mark.parametrize("kinds", ["narrow wide", "plain wide", "narrow plain", "wide wide"])
@pytest.mark.parametrize(("name", "progress"), TIMES)
def test_loss_is_its_equation(name: str, progress: float, kinds: str) -> None:
    student, teacher = (kept(kind, seed) for seed, kind in enumerate(kinds.split(), start=1))
    loss = double(name, student, teacher)
    with torch.no_grad():
        here = step(student, teacher, progress)
        value = loss(here)
        assert value.dtype == torch.float64
        assert value.item() == pytest.approx(SLOW[name](loss, here), rel=CLOSE)


BACKBONE = {"conv1", "bn1", "layer1", "layer2", "layer3"}
STEM = {"conv1", "bn1", "layer1"}


def taught(module: nn.Module, depth: int = 1) -> set[str]:
    """The parts, by the first words of their names, that have a gradient."""
    return {
        ".".join(name.split(".")[:depth])
        for name, p in module.named_parameters()
        if p.grad is not None and p.grad.any()
    }


@pytest.mark.parametrize(
    ("name", "progress", "student_s", "loss_s"),
    [
        ("lit", 0.5, BACKBONE, {"enter.1", "leave.1", "leave.2"}),  # the first stages are of one shape
        ("stage-by-stage", 0.0, STEM, set()),
        ("stage-by-stage", 0.3, {"layer2"}, {"adapt.1"}),
        ("stage-by-stage", 0.6, {"layer3"}, {"adapt.2"}),
        ("stage-by-stage", 0.8, {"fc"}, set()),
        ("stage-by-stage", 1.0, {"fc"}, set()),
        ("inherited", 0.5, BACKBONE | {"fc"}, {"project.weight"}),
    ],
)
def test_gradient_reaches_the_part_that_learns_alone(
    name: str, progress: float, student_s: set[str], loss_s: set[str]
) -> None:
    student, teacher = make("narrow", 1), make("wide", 2)
    loss = double(name, student, teacher)
    loss(step(student, teacher, progress)).backward()
    assert taught(student.network) == student_s
    assert taught(loss, depth=2) == loss_s
    assert taught(teacher) == set()


@pytest.mark.parametrize(
    ("stage", "feels"), [(0, STEM | {"layer2"}), (1, {"layer2", "layer3"}), (2, {"layer3"})]
)
def test_lit_s_stages_learn_from_the_teacher_s_maps_beside_them_alone(stage: int, feels: set[str]) -> None:
    found = []
    for factor in (1.0, 1.5):
        student, teacher = make("narrow", 1), make("wide", 2)
        here = step(student, teacher)
        maps = [t * factor if i == stage else t for i, t in enumerate(here.teacher.stages)]
        double("lit", student, teacher)(tiny.taught(here, stages=tuple(maps))).backward()
        found.append({key: p.grad for key, p in student.network.named_parameters() if p.grad is not None})
    moved = {key.split(".")[0] for key, grad in found[0].items() if not torch.equal(grad, found[1][key])}
    assert moved == feels


@pytest.mark.parametrize(
    ("name", "progress", "twice"),
    [("lit", 0.5, {"layer2", "layer3"}), ("stage-by-stage", 0.3, {"layer2"}), ("inherited", 0.5, set())],
)
def test_batch_norms_of_a_stage_that_runs_again_see_both_inputs(
    name: str, progress: float, twice: set[str]
) -> None:
    student, teacher = make("narrow", 1).train(), make("wide", 2)
    norm, start = student.network.layer2[0].bn1, student.network.layer2[0].bn1.running_mean.clone()
    loss, here = double(name, student, teacher), step(student, teacher, progress)
    value = loss(here)
    counts = {
        key.split(".")[0]: int(x) for key, x in student.network.named_buffers() if key.endswith("tracked")
    }
    assert counts == {key: 1 + (key in twice) for key in BACKBONE - {"conv1"}}
    fed = [array(here.student.stages[0])]  # all of them have 8 channels there: no bridge
    if "layer2" in twice:
        fed.append(array(here.teacher.stages[0]) if name == "lit" else fed[0])
    expected = start.numpy()
    for x in fed:
        expected = 0.9 * expected + 0.1 * slow_conv(x, student.network.layer2[0].conv1, stride=2).mean(
            (0, 2, 3)
        )
    assert norm.running_mean.numpy() == pytest.approx(expected, rel=CLOSE)
    assert value.item() == pytest.approx(SLOW[name](loss, here), rel=CLOSE)


@pytest.mark.parametrize("kinds", ["narrow wide", "wide wide"])
def test_inherited_s_terms_share_nothing_that_learns(kinds: str) -> None:
    student, teacher = (make(kind, seed) for seed, kind in enumerate(kinds.split(), start=1))
    loss, here = double("inherited", student, teacher), tiny.freed(step(student, teacher))
    loss(here).backward()
    p_s, p_t = array(here.student.pooled), array(here.teacher.pooled)
    ours, theirs, project = student.network.fc, teacher.network.fc, loss.project
    lifted = slow_linear(p_s, project)
    first, second = lifted - p_t, slow_linear(p_s, ours, bias=True) - slow_linear(lifted, theirs, bias=True)
    for p, expected in [
        (project.weight, 2 / first.size * np.einsum("no,ni->oi", first, p_s)),
        (here.student.pooled, 2 / first.size * np.einsum("no,oi->ni", first, array(project.weight))),
        (ours.weight, 2 / second.size * np.einsum("no,ni->oi", second, p_s)),
        (ours.bias, 2 / second.size * second.sum(0)),
    ]:
        assert p.grad.numpy() == pytest.approx(expected, rel=1e-7, abs=1e-12)


def test_inherited_s_second_term_is_0_for_the_teacher_s_classifier_after_the_projection() -> None:
    student, teacher = make("narrow", 1), make("wide", 2)
    loss, here = double("inherited", student, teacher), step(student, teacher)
    lifted = mean_square(slow_linear(array(here.student.pooled), loss.project), array(here.teacher.pooled))
    assert loss(here).item() > 1.01 * lifted
    with torch.no_grad():
        student.network.fc.weight.copy_(teacher.network.fc.weight @ loss.project.weight)
        student.network.fc.bias.copy_(teacher.network.fc.bias)
    value = loss(here)
    value.backward()
    assert value.item() == pytest.approx(lifted, rel=1e-12)
    assert float(student.network.fc.weight.grad.abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("name", "progress"), [(name, p) for name, p in TIMES if name != "stage-by-stage" or p < 0.75]
)
def test_loss_vanishes_for_the_teacher_s_twin(name: str, progress: float) -> None:
    student, teacher = make("wide", 2), make("wide", 2)
    loss = double(name, student, teacher)
    if name == "inherited":
        assert loss(step(student, teacher)).item() > 1e-3
        nn.init.eye_(loss.project.weight)
    value = loss(step(student, teacher, progress))
    value.backward()
    assert value.item() < 1e-20
    assert all(p.grad is None or float(p.grad.abs().max()) < 1e-12 for p in student.parameters())


@pytest.mark.parametrize(("name", "progress"), TIMES)
def test_a_batch_shown_twice_weighs_as_one(name: str, progress: float) -> None:
    student, teacher = kept("narrow", 1), kept("wide", 2)
    loss, here = double(name, student, teacher), step(student, teacher, progress)
    twice = changed(tiny.shapes_of(student, teacher), here, "twice")[1]
    assert len(twice.student.pooled) == len(twice.labels) == 10
    assert loss(twice).item() == pytest.approx(loss(here).item(), rel=CLOSE)


def test_inherited_grows_with_the_square_of_the_features_where_the_classifiers_have_no_bias() -> None:
    student, teacher = make("narrow", 1), make("wide", 2)
    nn.init.zeros_(student.network.fc.bias)
    nn.init.zeros_(teacher.network.fc.bias)
    loss, here = double("inherited", student, teacher), step(student, teacher)
    more = dataclasses.replace(here, student=here.student._replace(pooled=3 * here.student.pooled))
    more = tiny.taught(more, pooled=3 * here.teacher.pooled)
    assert loss(more).item() == pytest.approx(9 * loss(here).item(), rel=CLOSE)
