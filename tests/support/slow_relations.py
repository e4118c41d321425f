"""The losses of relations and of flow in plain loops, and batches that look in many ways."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.losses import bind
from pipeline.losses.step import Shapes, Step
from pipeline.models.tapped_model import Outputs, outputs
from support import tiny

IMAGES = 64
Array = Any  # of numpy
Vector = Sequence[float]


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def mean_square(left: Any, right: Any) -> float:
    return mean((a - b) ** 2 for a, b in zip(flat(left), flat(right), strict=True))


def flat(x: Any) -> list[float]:
    return [float(v) for v in np.asarray(x).ravel()]


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def distance(a: Vector, b: Vector) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def unit(a: Vector) -> list[float]:
    length = math.sqrt(dot(a, a))
    return [x / length if length else 0.0 for x in a]


def rows(x: Tensor) -> list[list[float]]:
    return x.detach().flatten(1).tolist()  # type: ignore[no-any-return]


def both(step: Step, of: Callable[[Outputs], Any]) -> tuple[Any, Any]:
    return of(step.student), of(step.teacher)


def stage_pairs(step: Step) -> list[tuple[Array, Array]]:
    """From the last backwards; what one network has more at the front has no partner."""
    ours, theirs = ([x.detach().numpy() for x in out.stages] for out in (step.student, step.teacher))
    return list(zip(ours[::-1], theirs[::-1], strict=False))[::-1]


def slow_sp(loss: Any, step: Step) -> float:
    """Tung & Mori 2019: who resembles whom, each row at unit length."""
    similar = lambda out: [unit([dot(a, b) for b in rows(out.stages[-1])]) for a in rows(out.stages[-1])]
    return mean_square(*both(step, similar))


def slow_cc(loss: Any, step: Step, gamma: float = 0.4, order: int = 2) -> float:
    """Peng et al. 2019: a Gaussian kernel by its Taylor expansion."""

    def kernel(out: Outputs) -> list[float]:
        x = [unit(a) for a in rows(out.pooled)]
        terms = lambda c: sum((2 * gamma) ** p / math.factorial(p) * c**p for p in range(order + 1))
        return [math.exp(-2 * gamma) * terms(dot(a, b)) for a in x for b in x]

    return mean_square(*both(step, kernel))


def slow_rkd(loss: Any, step: Step, distance: float = 25.0, angle: float = 50.0) -> float:
    """Park et al. 2019: Huber's distance of the scaled distances, and of the cosines of all angles."""
    huber = lambda x: x * x / 2 if abs(x) < 1 else abs(x) - 0.5
    compare = lambda a, b: mean(huber(x - y) for x, y in zip(a, b, strict=True))
    lengths = compare(*both(step, lambda out: slow_distances(rows(out.pooled))))
    return distance * lengths + angle * compare(*both(step, lambda out: slow_angles(rows(out.pooled))))


def slow_distances(x: list[list[float]]) -> list[float]:
    found = [distance(a, b) for a in x for b in x]
    positive = [d for d in found if d > 0]
    return [d / mean(positive) if positive else 0.0 for d in found]


def slow_angles(x: list[list[float]]) -> list[float]:
    found = []
    for corner in x:
        ways = [unit([a - c for a, c in zip(point, corner, strict=True)]) for point in x]
        found += [dot(a, b) for a in ways for b in ways]
    return found


def slow_pkt(loss: Any, step: Step) -> float:
    """Passalis & Tefas 2018: the divergence of the shares of resemblance."""

    def shares(out: Outputs) -> list[float]:
        x = [unit(a) for a in rows(out.pooled)]
        table = [[(1 + dot(a, b)) / 2 for b in x] for a in x]
        return [k / sum(row) for row in table for k in row]

    ours, theirs = both(step, shares)
    return mean(t * math.log((t + 1e-7) / (s + 1e-7)) for s, t in zip(ours, theirs, strict=True))


def slow_irg(
    loss: Any, step: Step, vertices: float = 0.1, edges: float = 5.0, transformation: float = 5.0
) -> float:
    """Liu et al. 2019: an image's answer, who lies how far from whom, and how far a stage moves it."""
    largest = lambda values: [v / max(values) if max(values) else 0.0 for v in values]
    between = lambda x: largest([distance(a, b) ** 2 for a in x for b in x])
    moved = lambda x, y: largest([distance(*narrowed(a, b)) ** 2 for a, b in zip(x, y, strict=True)])
    pooled = [[[[mean(flat(c)) for c in i] for i in x] for x in pair] for pair in stage_pairs(step)]
    total = vertices * mean_square(*both(step, lambda out: rows(out.logits)))
    total += edges * mean(mean_square(between(s), between(t)) for s, t in pooled)
    follow = list(itertools.pairwise(pooled))
    moves = [mean_square(moved(s, s_next), moved(t, t_next)) for (s, t), (s_next, t_next) in follow]
    return total + transformation * (mean(moves) if moves else 0.0)


def narrowed(a: Vector, b: Vector) -> tuple[list[float], list[float]]:
    c = min(len(a), len(b))
    cut = lambda x: [mean(x[k * len(x) // c : -(-(k + 1) * len(x) // c)]) for k in range(c)]
    return cut(a), cut(b)


def slow_category(loss: Any, step: Step, intra: float = 0.002, inter: float = 0.04) -> float:
    """Chen et al. 2020: where an image lies in its class, and how the classes lie to each other."""
    maps, target = (out.stages[-1].detach().numpy() for out in (step.student, step.teacher))
    maps = np.einsum("dc,nchw->ndhw", array(loss.adapt.project.weight)[:, :, 0, 0], sized(maps, target))
    views = [(maps.reshape(len(maps), -1), target.reshape(len(target), -1))]
    views += [both(step, lambda out: np.array(rows(out.logits)))]
    total, labels = 0.0, step.labels.tolist()
    for view in views:
        (off_s, cos_s), (off_t, cos_t) = (slow_structure(x, labels) for x in view)
        total += intra * mean_square(off_s, off_t) + inter * mean_square(cos_s, cos_t)
    return total


def slow_structure(x: Array, labels: list[int]) -> tuple[list[Array], list[float]]:
    members = {k: [i for i, label in enumerate(labels) if label == k] for k in sorted(set(labels))}
    centre = {k: sum(x[i] for i in images) / len(images) for k, images in members.items()}
    cosines = [dot(unit(centre[k]), unit(centre[m])) for k in members for m in members]
    return [x[i] - centre[label] for i, label in enumerate(labels)], cosines


def array(x: Tensor) -> Array:
    return x.detach().numpy().copy()


def sized(x: Array, like: Array) -> Array:
    """Maps at another's side: the mean of the places that fall together, or each place repeated."""
    side, wanted = x.shape[-1], like.shape[-1]
    if side < wanted:
        return x.repeat(wanted // side, 2).repeat(wanted // side, 3)
    k = side // wanted
    return sum(x[:, :, i::k, j::k] for i in range(k) for j in range(k)) / k**2


def slow_fsp(loss: Any, step: Step) -> float:
    """Yim et al. 2017: what one stage's channel has in common with one of the next."""

    def flow(x: Array, y: Array) -> Array:
        x, y = (sized(x, y), y) if x.shape[-1] > y.shape[-1] else (x, sized(y, x))
        places = range(x.shape[-1])
        return (
            sum(x[:, :, None, i, j] * y[:, None, :, i, j] for i in places for j in places) / len(places) ** 2
        )

    found = stage_pairs(step)
    follow = itertools.pairwise(found)
    return mean(mean_square(flow(s, s_next), flow(t, t_next)) for (s, t), (s_next, t_next) in follow)


def slow_ickd(loss: Any, step: Step) -> float:
    """Liu et al. 2021: the channels of an image, who resembles whom."""
    ours, theirs = (out.stages[-1].detach().numpy() for out in (step.student, step.teacher))
    convolution, norm = loss.adapt
    ours = np.einsum("dc,nchw->ndhw", array(convolution.weight)[:, :, 0, 0], ours)
    for d in range(ours.shape[1]):
        values = flat(ours[:, d])
        centre, spread = mean(values), mean_square(values, [mean(values)] * len(values))
        if not loss.training:
            centre, spread = norm.running_mean[d].item(), norm.running_var[d].item()
        scaled = (ours[:, d] - centre) / math.sqrt(spread + norm.eps)
        ours[:, d] = scaled * norm.weight[d].item() + norm.bias[d].item()
    total = 0.0
    for a, b in zip(ours, theirs, strict=True):
        grams = [[unit([float((p * q).sum()) for q in x]) for p in x] for x in (a, b)]
        total += sum((x - y) ** 2 for x, y in zip(flat(grams[0]), flat(grams[1]), strict=True))
    return total / (len(ours) * ours.shape[1])


def small(out: Outputs) -> Outputs:
    return out._replace(stages=tuple(nn.functional.avg_pool2d(x, 2) for x in out.stages))


def each(out: Outputs, change: Callable[[Tensor], Tensor]) -> Outputs:
    return outputs([change(x) for x in (out.logits, out.pooled, *out.stages)])


def same(out: Outputs) -> Outputs:
    return out


def alive(x: Tensor) -> Tensor:
    return (torch.arange(len(x)) > 0).to(x).view(-1, *[1] * (x.ndim - 1))


SLOW = {
    "sp": slow_sp,
    "cc": slow_cc,
    "rkd": slow_rkd,
    "pkt": slow_pkt,
    "irg": slow_irg,
    "category": slow_category,
    "fsp": slow_fsp,
    "ickd": slow_ickd,
}

# What the student and the teacher may look like: first the student's outputs changed, then the teacher's.
LOOKS: dict[str, tuple[Callable[[Outputs], Outputs], Callable[[Outputs], Outputs]]] = {
    "as they are": (same, same),
    "a stage less": (lambda out: out._replace(stages=out.stages[1:]), same),
    "one stage": (lambda out: out._replace(stages=out.stages[-1:]), same),
    "smaller maps": (small, same),
    "larger maps": (same, small),
    "twins": (lambda out: each(out, lambda x: torch.cat([x[:1], x[:-1]])), same),
    "a dead image": (lambda out: each(out, lambda x: x * alive(x)), same),
    "one far off": (lambda out: each(out, lambda x: x * (31 - 30 * alive(x))), same),
    "all alike": (lambda out: each(out, lambda x: x[:1].expand_as(x)), same),
}


def a_step(widths: tuple[int, int, int, int] = tiny.WIDE, seed: int = 1, look: str = "as they are") -> Step:
    """A batch of five images of three of the four classes, one of them alone in its class."""
    networks = tiny.model(tiny.NARROW, seed=seed).double(), tiny.model(widths, seed=seed + 1).double()
    here = tiny.step(*networks, count=5, dtype=torch.float64)
    here = dataclasses.replace(here, labels=torch.tensor([0, 2, 0, 1, 2]))
    ours, theirs = LOOKS[look]
    return says(here, ours(here.student), theirs(here.teacher))


def says(step: Step, student: Outputs, teacher: Outputs) -> Step:
    student = each(student, Tensor.detach)
    return dataclasses.replace(
        step, student=student, teacher_network=tiny.Fixed(step.teacher_network, teacher)
    )


def loss_for(name: str, step: Step, **arguments: object) -> Any:
    ours, theirs = both(step, lambda out: tuple(tuple(x.shape[1:]) for x in out.stages))
    pooled = both(step, lambda out: out.pooled.shape[1])
    torch.manual_seed(0)
    loss = bind(name, arguments, Shapes(ours, theirs, *pooled, tiny.CLASSES, IMAGES), "here")
    if isinstance(loss, nn.Module):
        loss.double()
        with torch.no_grad():  # no parameter and no statistic as it was at the start
            for x in (*loss.parameters(), *(b for b in loss.buffers() if b.is_floating_point())):
                x.add_(0.3 * torch.rand_like(x))
    return loss
