"""The losses that carry features over through learnt layers, each against a slow restatement of its equation."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the losses are torch's")

from pipeline.losses.step import Step
from support import tiny
from support.slowly import (
    LARGE,
    SCENES,
    SMALL,
    array,
    before_and_after,
    changed,
    idle,
    learner,
    made_up,
    met,
    resumed,
    slow_conv,
    slow_linear,
    slow_norm,
    slow_resize,
    softmax,
    stages,
)
from support.tiny import one_thread  # noqa: F401  (one thread for every test here)

CLOSE = 1e-9


def slow_tofd(
    loss: Any, step: Step, alpha: float = 0.05, beta: float = 0.03, temperature: float = 4.0
) -> float:
    """Zhang et al. 2020, eqs. 2 to 5: the features that a classifier of their own can tell the task by."""
    t = 1 + (temperature - 1) * step.progress
    labels, total = step.labels.tolist(), 0.0
    heads = zip(met(*stages(step))[:-1], loss.student, loss.teacher, loss.resize, strict=False)
    for (ours, theirs), student, teacher, resize in heads:
        f_s, f_t = slow_transform(ours, student.transform), slow_transform(theirs, teacher.transform)
        z_s = slow_linear(f_s, student.classify, bias=True)
        z_t = slow_linear(f_t, teacher.classify, bias=True)
        total += slow_soft(z_s, z_t, t) + alpha * slow_distance(f_s, f_t, resize)
        total += slow_hard(z_s, labels) + slow_hard(z_t, labels)
    ours, theirs = ((array(x.logits), array(x.pooled)) for x in (step.student, step.teacher))
    total += slow_soft(ours[0], theirs[0], t) + alpha * slow_distance(ours[1], theirs[1], loss.resize[-1])
    for layer in loss.resize:
        w = array(layer.weight)
        total += beta * sum(slow_orthogonal(rows) for rows in (w, w.T))
    return total


def slow_transform(x: np.ndarray, blocks: Any) -> np.ndarray:
    for block in list(blocks)[:-2]:  # the last two take the mean over the places
        for i, stride in ((0, 2), (4, 1)):
            x = slow_conv(slow_conv(x, block[i], stride), block[i + 1])
            x = np.maximum(slow_norm(x, block[i + 2]), 0)
    return x.mean((2, 3))


def slow_soft(ours: np.ndarray, theirs: np.ndarray, t: float) -> float:
    terms = [sum(softmax(q / t) * np.log(softmax(p / t))) for p, q in zip(ours, theirs, strict=True)]
    return -sum(terms) / len(terms)


def slow_hard(logits: np.ndarray, labels: list[int]) -> float:
    return -sum(math.log(softmax(z)[y]) for z, y in zip(logits, labels, strict=True)) / len(labels)


def slow_distance(ours: np.ndarray, theirs: np.ndarray, resize: Any) -> float:
    return math.sqrt(((slow_linear(ours, resize) - theirs) ** 2).sum())


def slow_orthogonal(rows: np.ndarray) -> float:
    squares = 0.0
    for i, j in itertools.product(range(len(rows)), repeat=2):
        squares += (sum(rows[i] * rows[j]) - (i == j)) ** 2
    return math.sqrt(squares)


def slow_connect(loss: Any, step: Step) -> list[tuple[np.ndarray, np.ndarray]]:
    """The student's stages through 1×1 convolution and batch-norm, beside the teacher's, in forward order."""
    found = []
    for (ours, theirs), (adapter, norm) in zip(met(*stages(step)), loss.connectors.connect, strict=True):
        hint = slow_conv(slow_resize(ours, theirs.shape[2:]), adapter.project)
        found.append((slow_norm(hint, norm), theirs))
    return found


def slow_ab(loss: Any, step: Step, margin: float = 1.0) -> float:
    """Heo et al. 2019 (AAAI), eq. 4: a wrong or narrow answer to whether a neuron is active costs."""
    total, both = 0.0, slow_connect(loss, step)
    for i, (ours, theirs) in enumerate(both, start=1):
        sides = zip(ours.flatten(), theirs.flatten(), strict=True)
        costs = [max(margin - s, 0) ** 2 if t > 0 else max(s + margin, 0) ** 2 for s, t in sides]
        total += 2.0 ** (i - len(both)) * sum(costs) / len(ours)
    return total


def slow_ofd(loss: Any, steps: list[Step]) -> list[float]:
    """Heo et al. 2019 (ICCV), eqs. 2 to 4, with the margins of all batches up to each."""
    seen: dict[tuple[int, int], list[float]] = {}
    values = []
    for step in steps:
        total, both = 0.0, slow_connect(loss, step)
        for i, (ours, theirs) in enumerate(both, start=1):
            partial = 0.0
            for c in range(theirs.shape[1]):
                negative = seen.setdefault((i, c), [])
                negative += [t for t in theirs[:, c].flatten() if t < 0]
                margin = sum(negative) / len(negative) if negative else 0.0
                for s, t in zip(ours[:, c].flatten(), theirs[:, c].flatten(), strict=True):
                    t = max(t, margin)
                    partial += 0 if s <= t <= 0 else (t - s) ** 2
            total += 2.0 ** (i - len(both)) * partial / len(ours)
        values.append(total)
    return values


def slow_ft(loss: Any, step: Step, rate: float = 0.5, reconstruction: float = 0.005) -> float:
    """Kim et al. 2018, eqs. 1 to 4, both networks learning together."""
    ours, theirs = (all_[-1] for all_ in stages(step))
    factors = (
        slow_factor(theirs, loss.encode),
        slow_factor(slow_resize(ours, theirs.shape[2:]), loss.translate),
    )
    assert factors[0].shape[1] == round(rate * theirs.shape[1])
    differences = []
    for t, s in zip(*factors, strict=True):
        t, s = (x.flatten() / math.sqrt((x**2).sum()) for x in (t, s))
        differences += [abs(a - b) for a, b in zip(t, s, strict=True)]
    again = slow_factor(factors[0], loss.decode)
    return sum(differences) / len(differences) + reconstruction * ((again - theirs) ** 2).mean()


def slow_factor(x: np.ndarray, layers: Any) -> np.ndarray:
    for i in (0, 3, 6):
        x = slow_norm(slow_conv(x, layers[i]), layers[i + 1])
        x = np.where(x > 0, x, 0.1 * x)
    return x


def slow_vid(loss: Any, step: Step) -> float:
    """Ahn et al. 2019, eqs. 5 and 6: the likelihood of the teacher's features under a Gaussian."""
    total = 0.0
    for (ours, theirs), layers, rho in zip(met(*stages(step)), loss.mean, loss.rho, strict=True):
        mean = slow_conv(slow_resize(ours, theirs.shape[2:]), layers[0].project)
        for i in (2, 4):
            mean = slow_conv(np.maximum(mean, 0), layers[i])
        terms = []
        for c, raw in enumerate(rho.tolist()):
            variance = math.log(1 + math.exp(raw)) + 1e-5
            for t, m in zip(theirs[:, c].flatten(), mean[:, c].flatten(), strict=True):
                terms.append(((t - m) ** 2 / variance + math.log(variance)) / 2)
        total += sum(terms) / len(terms)
    return total


SLOW: dict[str, Callable[..., float]] = {
    "tofd": slow_tofd,
    "ab": slow_ab,
    "ofd": lambda loss, step: slow_ofd(loss, [step])[0],
    "ft": slow_ft,
    "vid": slow_vid,
}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("tofd", {}),
    ("tofd", {"alpha": 0.7, "beta": 0.0, "temperature": 2.5}),
    ("tofd", {"alpha": 0.0, "beta": 1.5}),
    ("ab", {}),
    ("ab", {"margin": 0.3}),
    ("ft", {}),
    ("ft", {"rate": 0.8, "reconstruction": 0.5}),
    ("ofd", {}),
    ("vid", {}),
]


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_loss_is_the_paper_s_equation(name: str, arguments: dict[str, Any], scene: str) -> None:
    shapes, here = SCENES[scene]()
    loss = learner(name, shapes, seed=len(scene), **arguments)
    with torch.no_grad():
        assert loss(here).item() == pytest.approx(SLOW[name](loss, here, **arguments), rel=CLOSE)


def test_ofd_s_margins_are_those_of_all_batches_so_far() -> None:
    sizes = [(4, 4, 4), (3, 2, 2)], [(2, 4, 4), (3, 2, 2)]
    scenes = [made_up(*sizes, seed=seed, signed=seed != 1) for seed in range(4)]
    expected = slow_ofd(learner("ofd", scenes[0][0]), [here for _, here in scenes])
    assert resumed("ofd", scenes) == pytest.approx(expected, rel=CLOSE)


def test_tofd_s_teacher_heads_learn_from_the_labels_alone() -> None:
    found = []
    shapes, here = made_up(SMALL, LARGE)
    for arguments in ({}, {"alpha": 0.9, "temperature": 1.5}):
        loss = learner("tofd", shapes, **arguments)
        loss(here).backward()
        found.append([parameter.grad for parameter in loss.teacher.parameters()])
    assert all(torch.equal(*both) for both in zip(*found, strict=True))
    # By the bias the slope of −ln p_y is p, less 1 at y.
    head, maps = loss.teacher[0], stages(here)[1][-2]
    logits = slow_linear(slow_transform(maps, head.transform), head.classify, bias=True)
    slopes = [softmax(z) - np.eye(tiny.CLASSES)[y] for z, y in zip(logits, here.labels, strict=True)]
    assert array(head.classify.bias.grad) == pytest.approx(np.mean(slopes, axis=0), rel=1e-9)


def test_ft_s_paraphraser_learns_from_the_reconstruction_alone() -> None:
    shapes, here = made_up(SMALL, SMALL)
    loss = learner("ft", shapes, reconstruction=0.0)
    loss(here).backward()
    assert all(
        p.grad is None or not p.grad.any() for p in (*loss.encode.parameters(), *loss.decode.parameters())
    )
    assert all(p.grad.any() for p in loss.translate.parameters())


@pytest.mark.parametrize("name", ["ft", "ofd"])
def test_nothing_is_left_to_learn_at_the_teacher(name: str) -> None:
    shapes, here = made_up(SMALL, SMALL, signed=False)
    here = tiny.freed(dataclasses.replace(here, student=here.teacher))
    loss = learner(name, shapes, **({"reconstruction": 0.0} if name == "ft" else {}))
    assert loss(here).item() > 1e-3
    if name == "ft":
        loss.translate.load_state_dict(loss.encode.state_dict())
    else:
        loss = learner(name, shapes, stir=0.0)
        idle(loss)
    value = loss(here)
    assert abs(value.item()) < 1e-20
    assert max(float(grad.abs().max()) for grad in tiny.gradients(value, here)) < 1e-9


FACTOR, HEADS = {"reconstruction": 0.0}, {"alpha": 0.0}  # without what has a scale of its own
SCALES: list[tuple[str, dict[str, Any], str, float]] = [
    ("tofd", HEADS, "twice", 1),
    ("tofd", HEADS, "student × 3", 1),
    ("tofd", HEADS, "teacher × 3", 1),
    ("ab", {}, "twice", 1),
    ("ab", {}, "larger", 4),
    ("ab", {}, "student × 3", 1),
    ("ab", {}, "teacher × 3", 1),  # only whether it is active counts
    ("ft", {}, "twice", 1),
    ("ft", FACTOR, "larger", 1 / 2),  # factors at unit length
    ("ft", FACTOR, "student × 3", 1),
    ("ft", FACTOR, "teacher × 3", 1),
    ("ofd", {}, "twice", 1),
    ("ofd", {}, "larger", 4),
    ("ofd", {}, "student × 3", 1),
    ("ofd", {}, "teacher × 3", 9),  # and as much wider a batch-norm
    ("vid", {}, "twice", 1),
    ("vid", {}, "larger", 1),
]
LAST = {"ofd": lambda loss: [connector[1] for connector in loss.connectors.connect]}


@pytest.mark.parametrize(("name", "arguments", "change", "factor"), SCALES)
def test_scale(name: str, arguments: dict[str, Any], change: str, factor: float) -> None:
    before, after = before_and_after(name, arguments, change, LAST.get(name, lambda loss: []))
    assert after == pytest.approx(factor * before, rel=1e-9)


def test_tofd_s_distance_grows_with_the_root_of_the_batch() -> None:
    scene = made_up(SMALL, LARGE)
    with torch.no_grad():
        once, twice = (
            learner("tofd", shapes, alpha=0.5)(here) - learner("tofd", shapes, alpha=0.0)(here)
            for shapes, here in (scene, changed(*scene, "twice"))
        )
    assert twice.item() == pytest.approx(math.sqrt(2) * once.item(), rel=1e-9)


def test_vid_of_features_three_times_as_large_is_that_of_a_spread_three_times_as_wide() -> None:
    scene = made_up(SMALL, LARGE)
    loss = learner("vid", scene[0])
    with torch.no_grad():
        once = loss(scene[1]).item()
        for rho in loss.rho:
            rho.copy_(torch.expm1(9 * (torch.nn.functional.softplus(rho) + 1e-5) - 1e-5).log())
        larger = changed(*changed(*scene, "student × 3"), "teacher × 3")[1]
        assert loss(larger).item() == pytest.approx(once + 2 * math.log(3), rel=1e-9)  # two pairs of stages
