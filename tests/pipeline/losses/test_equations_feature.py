"""The losses that compare features and maps, each against a slow, plain restatement of its equation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the losses are torch's")

from torch import nn

from pipeline.losses import LOSSES, bind
from pipeline.losses.step import Shapes, Step
from support import tiny
from support.slowly import (
    array,
    changed,
    homogeneous,
    learner,
    made_up,
    met,
    real,
    slow_conv,
    slow_linear,
    slow_norm,
    slow_pooled,
    slow_resize,
    stages,
)
from support.tiny import one_thread  # noqa: F401  (one thread for every test here)

CLOSE = 1e-9
BOTH = ("student × 3", "teacher × 3")
# Fewer stages and more, larger maps and smaller, sides that do not divide each other.
UNLIKE = [((6, 7, 7), (5, 4, 4)), ((4, 9, 9), (6, 6, 6), (9, 3, 3))]
EVEN = [((6, 4, 4), (5, 4, 4)), ((4, 4, 4), (9, 4, 4))]
SCENES: dict[str, Callable[[], tuple[Shapes, Step]]] = {
    "wider teacher": real,
    "twins": lambda: real(tiny.WIDE, tiny.WIDE),  # equal widths, other weights
    "unlike": lambda: made_up(*UNLIKE),
    "unlike the other way": lambda: made_up(*UNLIKE[::-1], count=4, seed=1),
    "as after a ReLU": lambda: made_up(*EVEN, count=6, seed=2, signed=False),
}


def make(name: str, shapes: Shapes, **arguments: object) -> Any:
    learns = isinstance(LOSSES[name].loss, type)
    return learner(name, shapes, **arguments) if learns else bind(name, arguments, shapes, "here")


def mean_square(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return math.fsum(d * d for d in (a - b).ravel().tolist()) / a.size


def length(x: np.ndarray) -> float:
    return math.sqrt(sum(v * v for v in x.ravel().tolist()))


def slow_m_fitnet(loss: Any, step: Step) -> float:
    """The SRKD paper's M-FitNet: every stage a hint through a 1×1 convolution."""
    return sum(
        mean_square(slow_conv(slow_resize(s, t.shape[2:]), adapter.project), t)
        for (s, t), adapter in zip(met(*stages(step)), loss.adapt, strict=True)
    )


class SlowProjection:
    """Zhang, Ning & He 2017: from all stages of the teacher to all of the student, the worst routes dropped."""

    def __init__(self, settle: float = 0.5) -> None:
        self.settle, self.running, self.alive = settle, {}, None

    def __call__(self, loss: Any, step: Step) -> float:
        routes, found = list(product(*stages(step))), []
        if self.alive is None:
            self.alive = list(range(len(routes)))
        for r in self.alive:
            s, t = routes[r]
            found.append(mean_square(slow_conv(slow_resize(t, s.shape[2:]), loss.project[r].project), s))
            relative = found[-1] / (mean_square(s, 0 * s) + 1e-6)
            self.running[r] = 0.99 * self.running.get(r, 0.0) + 0.01 * relative
        left = max(1, math.ceil(len(routes) * (1 - step.progress / self.settle)))
        self.alive = sorted(sorted(self.alive, key=self.running.__getitem__)[:left])
        return sum(found) / len(found)


def slow_pad(loss: Any, step: Step, warmup: float = 0.1) -> float:
    """Zhang et al. 2020: the negative log-likelihood of a Gaussian whose variance is learnt."""
    f_s, f_t, (linear, norm) = array(step.student.pooled), array(step.teacher.pooled), loss.log_variance
    adapted = f_s if f_s.shape == f_t.shape else slow_linear(f_s, loss.adapt, bias=True)
    total = 0.0
    for a, t, v in zip(adapted.flat, f_t.flat, slow_norm(slow_linear(f_s, linear), norm).flat, strict=True):
        total += (t - a) ** 2 if step.progress < warmup else (t - a) ** 2 / (1e-6 + math.exp(v)) + v
    return float(total) / f_t.size


def slow_feed(loss: Any, step: Step) -> float:
    """Park & Kwak 2019: distance of the unit maps by absolute values, the student's map translated."""
    s, t = met(*stages(step))[-1]
    x, total = slow_resize(s, t.shape[2:]), 0.0
    for conv in loss.translate[::2]:
        x = slow_conv(x, conv, bias=True)
        x = np.where(x > 0, x, 0.1 * x)
    for a, b in zip(x, t, strict=True):
        total += float(abs(a / length(a) - b / length(b)).sum())
    return total / t.size


def slow_at_paper(loss: Any, step: Step) -> float:
    """Zagoruyko & Komodakis 2017, eq. 2: the distance of the unit maps of energy."""
    total = 0.0
    for s, t in met(*stages(step)):
        for a, b in zip(*slow_pooled(s, t), strict=True):
            p, q = (sum(channel**2 for channel in x) for x in (a, b))
            total += length(p / length(p) - q / length(q)) / len(s)
    return total


def slow_nst(loss: Any, step: Step) -> float:
    """Huang & Wang 2017: the channels' squared maximum mean discrepancy, with k(a, b) = (a · b)²."""
    total = 0.0
    for s, t in met(*stages(step)):
        for a, b in zip(*slow_pooled(s, t), strict=True):
            p, q = ([channel / max(length(channel), 1e-4) for channel in x] for x in (a, b))
            total += (mean_kernel(q, q) + mean_kernel(p, p) - 2 * mean_kernel(p, q)) / len(s)
    return total


def mean_kernel(p: list[np.ndarray], q: list[np.ndarray]) -> float:
    return sum(float((a * b).sum()) ** 2 for a in p for b in q) / (len(p) * len(q))


def slow_cwd(loss: Any, step: Step, temperature: float = 4.0, stage: int = -1) -> float:
    """Shu et al. 2021: each channel a distribution over places, softened, KL from the teacher's."""
    s, t = met(*stages(step))[stage]
    s = slow_resize(s, t.shape[2:])
    s, total = s if s.shape == t.shape else slow_conv(s, loss.project), 0.0
    for i, c in product(range(len(t)), range(t.shape[1])):
        p, q = ([math.exp(z / temperature) for z in x[i, c].ravel()] for x in (t, s))
        total += sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / (t.shape[0] * t.shape[1])


SLOW: dict[str, Callable[..., float]] = {
    "m-fitnet": slow_m_fitnet,
    "projection": lambda loss, step, **arguments: SlowProjection(**arguments)(loss, step),
    "pad": slow_pad,
    "feed": slow_feed,
    "at-paper": slow_at_paper,
    "nst": slow_nst,
    "cwd": slow_cwd,
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [*((name, {}) for name in SLOW), ("cwd", {"temperature": 0.7, "stage": 0}), ("pad", {"warmup": 0.6})],
)
def test_loss_is_its_equation(name: str, arguments: dict[str, Any], scene: str) -> None:
    shapes, here = SCENES[scene]()
    loss = make(name, shapes, **arguments)
    with torch.no_grad():
        value = loss(here)
        assert value.dtype == torch.float64
        assert value.item() == pytest.approx(SLOW[name](loss, here, **arguments), rel=CLOSE)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_pad_is_the_plain_square_before_its_warm_up_ends(warmup: float) -> None:
    shapes, here = made_up(*EVEN)
    loss, values = make("pad", shapes, warmup=warmup), []
    for progress in (0.0, 0.0999, 0.1, 0.5, 1.0):
        here = dataclasses.replace(here, progress=progress)
        values.append(loss(here).item())
        assert values[-1] == pytest.approx(slow_pad(loss, here, warmup), rel=CLOSE)
    assert len(set(values)) == 1 + (warmup > 0)


@pytest.mark.parametrize("settle", [0.5, 1.0])
def test_projection_drops_the_worst_routes_and_goes_on_from_a_saved_state(settle: float) -> None:
    shapes = made_up(*UNLIKE)[0]
    loss, slow = make("projection", shapes, settle=settle), SlowProjection(settle)
    living = []
    for seed, progress in enumerate((0.0, 0.05, 0.11, 0.3, 0.32, 0.5, 0.7, 1.0)):
        here = made_up(*UNLIKE, seed=seed, progress=progress)[1]
        if seed == 3:
            saved, loss = loss.state_dict(), make("projection", shapes, settle=settle)
            loss.load_state_dict(saved)
        loss.eval()
        before = loss(here).item()
        loss.train()
        assert loss(here).item() == before == pytest.approx(slow(loss, here), rel=CLOSE)
        assert slow.alive == loss.alive.nonzero().flatten().tolist()
        for r in slow.alive:
            assert loss.running[r].item() == pytest.approx(slow.running[r], rel=CLOSE)
        living.append(len(slow.alive))
    assert living == {0.5: [6, 6, 5, 3, 3, 1, 1, 1], 1.0: [6, 6, 6, 5, 5, 3, 2, 1]}[settle]


def test_nst_leaves_a_dead_channel_at_0_and_a_faint_one_short() -> None:
    shapes, here = made_up(*EVEN)
    for maps in (*here.student.stages, *here.teacher.stages):
        maps[:, 0] *= 0
        maps[:, 1] *= 1e-5  # of a length of about 5e-5
    assert make("nst", shapes)(here).item() == pytest.approx(slow_nst(None, here), rel=CLOSE)


@pytest.mark.parametrize("name", SLOW)
def test_loss_vanishes_at_the_teacher_where_what_is_learnt_does_nothing(name: str) -> None:
    shapes, here = real(tiny.WIDE, tiny.WIDE, progress=0.05)  # before pad learns the variance
    loss = make(name, shapes)
    here = tiny.freed(tiny.taught(here, **here.student._asdict()))
    if name in ("m-fitnet", "projection", "feed"):
        assert loss(here).item() > 1e-3
        for layer in loss.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.dirac_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
    if name == "projection":
        loss.alive.copy_(torch.eye(3).flatten())  # from each stage to its like
    value = loss(here)
    assert abs(value.item()) < 1e-12
    if name != "feed":  # an absolute value has no slope there
        assert max(float(grad.abs().max()) for grad in tiny.gradients(value, here)) < 1e-12


@pytest.mark.parametrize(
    ("name", "changes", "factor"),
    [
        *((name, ("twice",), 1.0) for name in SLOW),
        *((name, ("larger",), 1.0) for name in ("m-fitnet", "projection", "at-paper", "nst", "cwd")),
        ("feed", ("larger",), 0.5),  # a mean over more elements of what has the same length
        *((name, (change,), 1.0) for name in ("feed", "at-paper", "nst") for change in BOTH),
        *((name, BOTH, 9.0) for name in ("m-fitnet", "projection", "pad")),
    ],
)
def test_scale_follows_the_normalisation(name: str, changes: tuple[str, ...], factor: float) -> None:
    values = []
    for several in ((), changes):
        shapes, here = made_up(*EVEN, progress=0.05)
        for change in several:
            shapes, here = changed(shapes, here, change)
        loss = make(name, shapes)
        if isinstance(loss, nn.Module):
            homogeneous(loss)
        if name == "feed":
            for conv in loss.translate[::2]:
                nn.init.zeros_(conv.bias)
        values.append(loss(here).item())
    assert values[1] == pytest.approx(factor * values[0], rel=CLOSE)


def test_cwd_knows_features_by_their_temperature_and_no_channel_s_level() -> None:
    shapes, here = made_up(*EVEN)
    value = make("cwd", shapes)(here).item()
    more = changed(*changed(shapes, here, BOTH[0]), BOTH[1])[1]
    assert make("cwd", shapes, temperature=12.0)(more).item() == pytest.approx(9 * value, rel=CLOSE)
    levels = torch.arange(9.0, dtype=torch.float64)[:, None, None]
    here = tiny.taught(here, stages=tuple(t + levels[: t.shape[1]] for t in here.teacher.stages))
    assert make("cwd", shapes)(here).item() == pytest.approx(value, rel=CLOSE)


@pytest.mark.parametrize("name", ["at-paper", "nst"])
def test_channels_in_pairs_weigh_as_one(name: str) -> None:
    shapes, here = made_up(*EVEN)
    loss = make(name, shapes)
    pairs = here.student._replace(stages=tuple(torch.cat([f, f.flip(1)], 1) for f in here.student.stages))
    twice = dataclasses.replace(here, student=pairs)
    assert loss(twice).item() == pytest.approx(loss(here).item(), rel=CLOSE)
