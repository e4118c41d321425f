"""The losses that weigh, fuse or match stages, each against a slow, plain restatement of its equation."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the losses are torch's")

from pipeline.losses.step import Step
from support import tiny
from support.slowly import (
    SCENES,
    SMALL,
    array,
    before_and_after,
    idle,
    learner,
    made_up,
    met,
    real,
    resumed,
    slow_conv,
    slow_linear,
    slow_norm,
    slow_pooled,
    slow_resize,
    softmax,
    stages,
)
from support.tiny import one_thread  # noqa: F401  (one thread for every test here)

CLOSE = 1e-9


def slow_afd(loss: Any, step: Step) -> float:
    """Ji et al. 2021, eqs. 2 to 7: each stage of the teacher asks, all of the student's answer."""
    ours, theirs = stages(step)
    keys = [
        np.maximum(slow_norm(slow_linear(f.mean((2, 3)), layer[0][0]), layer[0][1]), 0)
        for f, layer in zip(ours, loss.key, strict=True)
    ]
    queries = [
        slow_norm(slow_linear(f.mean((2, 3)), layer[0]), layer[1])
        for f, layer in zip(theirs, loss.query, strict=True)
    ]
    count, width = queries[0].shape
    bilinear = slow_norm(slow_linear(np.concatenate(keys), loss.bilinear[0]), loss.bilinear[1])
    total = 0.0
    for b, t in itertools.product(range(count), range(len(theirs))):
        logits, distances = [], []
        for s, f in enumerate(ours):
            key = bilinear[s * count + b, t * width : (t + 1) * width]
            place = array(loss.teacher_position[t]) * array(loss.student_position[s])
            logits.append((sum(key * queries[t][b]) + sum(place)) / math.sqrt(width))
            maps = [slow_energy(x[b], theirs[t].shape[2:]) for x in (f, theirs[t])]
            distances.append(((maps[0] - maps[1]) ** 2).mean())
        total += sum(softmax(np.array(logits)) * distances) / count
    return total


def slow_energy(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    energy = sum(channel**2 for channel in image) / len(image)
    flat = slow_resize(energy[None, None], size).flatten()  # type: ignore[arg-type, index]
    return flat / math.sqrt(sum(flat * flat))


def slow_semckd(loss: Any, step: Step, batch: int) -> float:
    """Chen et al. 2021 (AAAI), eqs. 3 to 8, the answers of images compared with those of the batch."""
    ours, theirs = stages(step)
    queries = [slow_embedding(f, layer, batch) for f, layer in zip(ours, loss.query, strict=True)]
    keys = [slow_embedding(f, layer, batch) for f, layer in zip(theirs, loss.key, strict=True)]
    total, count = 0.0, len(ours[0])
    for s, q in enumerate(queries):
        distances = []
        for t in range(len(theirs)):
            hint, target = slow_pooled(ours[s], theirs[t])
            for i in (0, 3):
                hint = slow_conv(hint, loss.project[s][t][i])
                hint = np.maximum(slow_norm(hint, loss.project[s][t][i + 1]), 0)
            assert hint.shape[1] == 2 * target.shape[1]
            hint = slow_conv(hint, loss.project[s][t][6])
            distances.append([(row**2).mean() for row in hint - target])
        for b in range(count):
            attention = softmax(np.array([sum(q[b] * k[b]) for k in keys]))
            total += sum(a * d[b] for a, d in zip(attention, distances, strict=True))
    return total / (count * len(ours))


def slow_embedding(maps: np.ndarray, layers: Any, batch: int) -> np.ndarray:
    flat = maps.reshape(len(maps), -1)
    rows = np.zeros((len(maps), batch))
    for i, j in itertools.product(range(len(maps)), range(min(batch, len(maps)))):
        rows[i, j] = sum(flat[i] * flat[j])
    out = slow_linear(np.maximum(slow_linear(rows, layers[0], bias=True), 0), layers[2], bias=True)
    assert out.shape[1] == batch // 4
    return np.stack([row / math.sqrt(sum(row * row)) for row in out])


def slow_reviewkd(loss: Any, step: Step) -> float:
    """Chen et al. 2021 (CVPR), figures 3 and 4, from the last stage to the first."""
    ours, theirs = stages(step)
    levels = [
        *met(ours, theirs),
        tuple(array(x.pooled)[:, :, None, None] for x in (step.student, step.teacher)),
    ]
    passed, total = None, 0.0
    for (f, target), layers in zip(levels[::-1], [loss.pooled, *reversed(loss.stages)], strict=True):
        r = slow_norm(slow_conv(f, layers.reduce[0]), layers.reduce[1])
        assert r.shape[1] == min(512, step.student.pooled.shape[1])
        if passed is not None:
            p = slow_resize(passed, r.shape[2:])
            z = 1 / (1 + np.exp(-slow_conv(np.concatenate([r, p], axis=1), layers.gates[0], bias=True)))
            r = z[:, :1] * r + z[:, 1:] * p
        passed = slow_resize(r, target.shape[2:])
        total += slow_hcl(slow_norm(slow_conv(passed, layers.expand[0]), layers.expand[1]), target)
    return total


def slow_hcl(ours: np.ndarray, theirs: np.ndarray) -> float:
    terms = [((ours - theirs) ** 2).mean()]
    for size in (4, 2, 1):
        if size < min(theirs.shape[2:]):
            terms.append(((slow_resize(ours, (size, size)) - slow_resize(theirs, (size, size))) ** 2).mean())
    return sum(term / 2**k for k, term in enumerate(terms)) / sum(1 / 2**k for k in range(len(terms)))


def slow_mgd(loss: Any, steps: Sequence[Step], period: int) -> list[float]:
    """Yue et al. 2020, algorithm 1 with absolute max pooling: the loss of every step of a training."""
    costs: dict[int, Any] = {}
    matches: dict[int, dict[int, tuple[int, ...]]] = {}
    values = []
    for number, step in enumerate(steps):
        total, both = 0.0, [slow_pooled(*pair) for pair in met(*stages(step))]
        for i, (ours, theirs) in enumerate(both):
            costs[i] = costs.get(i, 0) + slow_cost(ours, theirs)
            if number % period == 0:
                matches[i] = best_match(costs.pop(i))
            total += slow_partial(slow_norm(ours, loss.matches[i].norm), theirs, matches[i]) / 2 ** (
                len(both) - 1 - i
            )
        values.append(total / len(step.images))
    return values


def slow_cost(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    cost = np.zeros((ours.shape[1], theirs.shape[1]))
    for b, c, d in itertools.product(range(len(ours)), *map(range, cost.shape)):
        x, y = ours[b, c].flatten(), theirs[b, d].flatten()
        lengths = math.sqrt(sum(x * x) * sum(y * y))
        cost[c, d] += (2 - 2 * (sum(x * y) / lengths if lengths else 0)) / len(ours)
    return cost


def best_match(cost: np.ndarray) -> dict[int, tuple[int, ...]]:
    """By trying them all: each student's channel its teachers, or each of few teachers one student."""
    students, teachers = cost.shape
    if teachers < students:
        tries = itertools.permutations(range(students), teachers)
        best = min(tries, key=lambda chosen: sum(cost[c, d] for d, c in enumerate(chosen)))
        return {c: (d,) for d, c in enumerate(best)}
    group = teachers // students

    def least(c: int, free: frozenset[int]) -> tuple[float, tuple[tuple[int, ...], ...]]:
        if c == students:
            return 0.0, ()
        found = []
        for chosen in itertools.combinations(sorted(free), group):
            rest = least(c + 1, free - set(chosen))
            found.append((rest[0] + sum(cost[c, d] for d in chosen), (chosen, *rest[1])))
        return min(found)

    return dict(enumerate(least(0, frozenset(range(teachers)))[1]))


def slow_partial(ours: np.ndarray, theirs: np.ndarray, match: dict[int, tuple[int, ...]]) -> float:
    total = 0.0
    for c, teachers in match.items():
        negative = [theirs[:, d][theirs[:, d] < 0] for d in teachers]
        margin = sum(x.mean() if x.size else 0.0 for x in negative) / len(teachers)
        for b, i, j in itertools.product(*map(range, ours[:, 0].shape)):
            s, t = ours[b, c, i, j], max(margin, max((theirs[b, d, i, j] for d in teachers), key=abs))
            total += (s - t) ** 2 if s > t or t > 0 else 0.0
    return total


SLOW: dict[str, Callable[..., float]] = {
    "afd": lambda loss, step, width=128: slow_afd(loss, step),
    "semckd": lambda loss, step, batch=64: slow_semckd(loss, step, batch),
    "reviewkd": slow_reviewkd,
    "mgd": lambda loss, step: slow_mgd(loss, [step], 1)[0],
}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("afd", {}),
    ("afd", {"width": 5}),
    ("semckd", {}),
    ("semckd", {"batch": 8}),
    ("semckd", {"batch": 10}),
    ("reviewkd", {}),
    ("mgd", {}),
]


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_loss_is_the_paper_s_equation(name: str, arguments: dict[str, Any], scene: str) -> None:
    mgd = (name, scene) == ("mgd", "networks")  # few enough channels to try every match
    shapes, here = real((4, 4, 3, 5), (4, 4, 6, 6)) if mgd else SCENES[scene]()
    loss = learner(name, shapes, seed=len(scene), **arguments)
    with torch.no_grad():
        assert loss(here).item() == pytest.approx(SLOW[name](loss, here, **arguments), rel=CLOSE)


@pytest.mark.parametrize("period", [1, 2, 3, 400])
def test_mgd_matches_by_what_it_saw_since_the_last_match(period: int) -> None:
    scenes = [made_up([(4, 4, 4), (3, 2, 2)], [(4, 4, 4), (7, 2, 2)], seed=seed) for seed in range(7)]
    expected = slow_mgd(learner("mgd", scenes[0][0]), [here for _, here in scenes], period)
    assert resumed("mgd", scenes, period=period) == pytest.approx(expected, rel=CLOSE)


def alone(loss: Any) -> None:
    """So that the fusion of reviewkd passes its own stage alone."""
    for fusion in loss.stages:
        torch.nn.init.zeros_(fusion.gates[0].weight)
        fusion.gates[0].bias.data = torch.tensor([1e3, -1e3], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("afd", SMALL[:1]), ("semckd", SMALL[:1]), ("reviewkd", SMALL), ("mgd", SMALL)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_is_left_to_learn_at_the_teacher(name: str, sizes: Any) -> None:
    """For afd and semckd with one stage each: of several, each is held to all of the other's."""
    shapes, here = made_up(sizes, sizes, signed=False)
    teacher = here.teacher._replace(pooled=here.teacher.pooled[:, :6])
    shapes = dataclasses.replace(shapes, student_pooled=6)
    here = tiny.freed(dataclasses.replace(here, student=teacher))
    loss = learner(name, shapes, stir=0.0)
    if name != "afd":
        assert loss(here).item() > 1e-3
        loss = learner(name, shapes, stir=0.0)
        idle(loss)
    if name == "reviewkd":
        alone(loss)
    value = loss(here)
    assert abs(value.item()) < 1e-20
    assert max(float(grad.abs().max()) for grad in tiny.gradients(value, here)) < 1e-9


SCALES = [
    ("afd", {}, "twice", 1),
    ("afd", {}, "larger", 1 / 4),  # maps at unit length
    ("afd", {}, "student × 3", 1),
    ("afd", {}, "teacher × 3", 1),
    ("semckd", {"batch": 8}, "twice", 1),  # as many images as it compares with: then the others add nothing
    ("semckd", {"batch": 8}, "larger", 1),
    ("semckd", {"batch": 8}, "student × 3", 1),  # the first batch-norm
    ("reviewkd", {}, "twice", 1),
    ("reviewkd", {}, "larger", 1),
    ("reviewkd", {}, "student × 3", 1),
    ("reviewkd", {}, "teacher × 3", 9),
    ("mgd", {}, "twice", 1),
    ("mgd", {}, "larger", 4),  # a sum over places
    ("mgd", {}, "student × 3", 1),
    ("mgd", {}, "teacher × 3", 9),
]


LAST: dict[str, Callable[[Any], list[Any]]] = {
    "reviewkd": lambda loss: [fusion.expand[1] for fusion in (loss.pooled, *loss.stages)],
    "mgd": lambda loss: [match.norm for match in loss.matches],
}


@pytest.mark.parametrize(("name", "arguments", "change", "factor"), SCALES)
def test_scale(name: str, arguments: dict[str, Any], change: str, factor: float) -> None:
    before, after = before_and_after(name, arguments, change, LAST.get(name, lambda loss: []))
    assert after == pytest.approx(factor * before, rel=1e-9)
