"""For the slow restatements of the losses: answers made up, layers spelled out, and what changes their scale."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.losses import bind
from pipeline.losses.step import Shapes, Step
from pipeline.models.tapped_model import Outputs
from support import tiny

Sizes = Sequence[tuple[int, int, int]]
SMALL, LARGE = ((2, 8, 8), (3, 4, 4), (5, 2, 2)), ((4, 16, 16), (7, 8, 8))  # the shapes of stages


@cache
def networks(student: tuple[int, ...] = tiny.NARROW, teacher: tuple[int, ...] = tiny.WIDE) -> tuple[Any, Any]:
    return tiny.model(student, seed=1).double(), tiny.model(teacher, seed=2).double()  # type: ignore[arg-type]


def real(
    student: tuple[int, ...] = tiny.NARROW, teacher: tuple[int, ...] = tiny.WIDE, progress: float = 0.5
) -> tuple[Shapes, Step]:
    """What two networks say of five images."""
    both = networks(student, teacher)
    with torch.no_grad():
        return tiny.shapes_of(*both), tiny.step(*both, count=5, dtype=torch.float64, progress=progress)


def made_up(
    student: Sizes, teacher: Sizes, count: int = 5, seed: int = 0, signed: bool = True, progress: float = 0.5
) -> tuple[Shapes, Step]:
    """Random answers with stages of any shape; not ``signed``: as after a ReLU."""
    generator = torch.Generator().manual_seed(seed)

    def says(sizes: Sizes, pooled: int) -> Outputs:
        draw = lambda *size: torch.randn(count, *size, generator=generator, dtype=torch.float64)
        stages = [draw(*size) for size in sizes]
        return Outputs(
            draw(tiny.CLASSES), draw(pooled), tuple(stages if signed else [f.relu() for f in stages])
        )

    here = tiny.step(networks()[0], networks()[0], count, torch.float64, progress)
    shapes = Shapes(tuple(student), tuple(teacher), 7, 6, tiny.CLASSES, 64)
    here = dataclasses.replace(here, student=says(student, 7))
    return shapes, dataclasses.replace(
        here, teacher_network=tiny.Fixed(here.teacher_network, says(teacher, 6))
    )


SCENES: dict[str, Callable[[], tuple[Shapes, Step]]] = {
    "networks": lambda: real(progress=0.3),
    "larger teacher": lambda: made_up(SMALL, LARGE, seed=1, progress=0.0),
    "larger student": lambda: made_up(LARGE, SMALL, count=9, seed=2, progress=1.0),
    "rectangles": lambda: made_up([(3, 6, 4), (2, 7, 5)], [(6, 3, 2), (5, 3, 2)], seed=3),
    "after a ReLU": lambda: made_up(SMALL, SMALL, seed=4, signed=False, progress=0.8),
}


def learner(name: str, shapes: Shapes, seed: int = 0, stir: float = 0.3, **arguments: object) -> Any:
    """A loss of the catalogue in float64 with no parameter as it was at the start."""
    torch.manual_seed(seed)
    loss = bind(name, arguments, shapes, "here")
    assert isinstance(loss, nn.Module)
    with torch.no_grad():
        for parameter in loss.double().parameters():
            parameter += stir * torch.randn_like(parameter)
    return loss


def resumed(name: str, scenes: Sequence[tuple[Shapes, Step]], **arguments: object) -> list[float]:
    """What a loss says of one scene after the other, its state saved and loaded into a new one each time."""
    loss, values = learner(name, scenes[0][0], **arguments), []
    for seed, (shapes, here) in enumerate(scenes):
        with torch.no_grad():
            values.append(loss(here).item())
        state, loss = loss.state_dict(), learner(name, shapes, seed + 1, **arguments)
        loss.load_state_dict(state)
    return values


def array(x: Tensor) -> np.ndarray:
    return x.detach().numpy()


def slow_norm(x: np.ndarray, norm: nn.Module) -> np.ndarray:
    """Each channel less the batch's mean, over the root of the batch's variance + eps; scale and shift."""
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        less = x[:, c] - x[:, c].sum() / x[:, c].size
        out[:, c] = less / math.sqrt((less * less).sum() / less.size + norm.eps)
        if norm.affine:
            out[:, c] = out[:, c] * norm.weight[c].item() + norm.bias[c].item()
    return out


def slow_conv(x: np.ndarray, layer: nn.Conv2d, stride: int = 1, bias: bool = False) -> np.ndarray:
    """A convolution with as many zeros around as keep the side (before its stride), one offset at a time."""
    weight = array(layer.weight)
    reach = weight.shape[2] // 2
    height, width = x.shape[2:]
    padded = np.zeros((*x.shape[:2], height + 2 * reach, width + 2 * reach))
    padded[:, :, reach : reach + height, reach : reach + width] = x
    out = np.zeros((len(x), len(weight), -(-height // stride), -(-width // stride)))
    for i, j in itertools.product(range(weight.shape[2]), repeat=2):
        seen = padded[:, :, i : i + height : stride, j : j + width : stride]
        if weight.shape[1] == x.shape[1]:
            out += np.einsum("oc,nchw->nohw", weight[:, :, i, j], seen)
        else:  # depthwise: each channel by itself
            out += weight[:, 0, i, j][:, None, None] * seen
    assert (layer.bias is not None) == bias
    return out + array(layer.bias)[:, None, None] if bias else out


def slow_linear(x: np.ndarray, layer: nn.Linear, bias: bool = False) -> np.ndarray:
    out = np.einsum("oc,nc->no", array(layer.weight), x)
    assert (layer.bias is not None) == bias
    return out + array(layer.bias) if bias else out


def slow_resize(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Downwards the mean of what falls on a pixel, upwards the pixel below."""
    (height, width), (h, w) = x.shape[2:], size
    out = np.empty((*x.shape[:2], h, w))
    for i, j in itertools.product(range(h), range(w)):
        top, left = i * height // h, j * width // w
        bottom, right = max(top + 1, -(-(i + 1) * height // h)), max(left + 1, -(-(j + 1) * width // w))
        out[:, :, i, j] = x[:, :, top:bottom, left:right].mean((2, 3)) if height > h else x[:, :, top, left]
    return out


def slow_pooled(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The larger of two maps averaged to the side of the smaller."""
    size = min(left.shape[2:], right.shape[2:])
    return slow_resize(left, size), slow_resize(right, size)


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x)
    return powers / powers.sum()


def stages(step: Step) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [array(f) for f in step.student.stages], [array(f) for f in step.teacher.stages]


def met(ours: Sequence[Any], theirs: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Stages paired from the last, in forward order."""
    return list(zip(reversed(ours), reversed(theirs), strict=False))[::-1]


def idle(loss: nn.Module) -> None:
    """Convolutions and batch-norms that do nothing, as far as the widths allow."""
    for layer in loss.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.eval().running_var.fill_(1 - layer.eps)  # type: ignore[union-attr]


def homogeneous(loss: nn.Module) -> None:
    """Nothing that looks beyond a pixel, and nothing of a size of its own beside features of any size."""
    for layer in loss.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            centre = layer.weight.data[:, :, 1, 1].clone()
            layer.weight.data.zero_()[:, :, 1, 1] = centre
        elif isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.eps = 1e-30


def changed(shapes: Shapes, step: Step, change: str) -> tuple[Shapes, Step]:
    """The scene with its batch ``twice``, its maps ``larger``, or the features ``student × 3``, ``teacher × 3``."""
    same, again = (lambda x: x), (lambda x: torch.cat([x, x]))
    grow = lambda x: x if x.ndim == 2 else x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    ours, theirs = {
        "twice": (again, again),
        "larger": (grow, grow),
        "student × 3": (lambda x: 3 * x, same),
        "teacher × 3": (same, lambda x: 3 * x),
    }[change]
    both = [
        Outputs(
            again(out.logits) if change == "twice" else out.logits, to(out.pooled), tuple(map(to, out.stages))
        )
        for out, to in ((step.student, ours), (step.teacher, theirs))
    ]
    images = {
        name: again(getattr(step, name)) for name in ("images", "labels", "indices") if change == "twice"
    }
    if change == "larger":
        sizes = [tuple((c, 2 * h, 2 * w) for c, h, w in x) for x in (shapes.student, shapes.teacher)]
        shapes = dataclasses.replace(shapes, student=sizes[0], teacher=sizes[1])
    teacher = tiny.Fixed(step.teacher_network, both[1])
    return shapes, dataclasses.replace(step, student=both[0], teacher_network=teacher, **images)


def before_and_after(name: str, arguments: dict[str, Any], change: str, last: Any) -> list[float]:
    """A loss with the same layers, but for ``last`` batch-norms that grow with the teacher's features."""
    scene = made_up([(3, 8, 8), (4, 8, 8)], [(5, 8, 8), (6, 8, 8)], count=8)
    values = []
    for times, (shapes, here) in ((1, scene), (3, changed(*scene, change))):
        loss = learner(name, shapes, **arguments)
        homogeneous(loss)
        with torch.no_grad():
            for norm in last(loss) if change == "teacher × 3" else []:
                norm.weight *= times
                norm.bias *= times
            values.append(loss(here).item())
    return values
