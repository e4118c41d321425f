"""Small things for the tests of the workshop: networks of a few channels, sets of a few images."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.data import decoded
from pipeline.data.batches import Batch
from pipeline.data.decoded import Decoded, Facts
from pipeline.losses import bind, shapes
from pipeline.losses.step import Shapes, Step
from pipeline.models.cifar import CifarResNet
from pipeline.models.feature_levels import find_levels
from pipeline.models.split_model import Parts
from pipeline.models.tapped_model import Model, Outputs, outputs
from pipeline.quantization.ptq import calibrate, prepare
from pipeline.recipe.schema import Training
from pipeline.schemes.base import Phase, Scheme
from pipeline.schemes.labels import Labels
from pipeline.tasks import TASKS
from targets.image_folder import Decoding

SIDE, CLASSES = 16, 4
SHAPE = (3, SIDE, SIDE)  # of an image
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.3, 0.2)
NARROW, WIDE = (8, 8, 12, 20), (8, 8, 16, 24)


def labels(smoothing: float, weight: float = 1.0) -> Labels:
    """The loss of the labels of classes."""
    return Labels(TASKS["classification"], smoothing, weight)


def network(
    widths: tuple[int, int, int, int] = NARROW, depth: int = 8, classes: int = CLASSES
) -> CifarResNet:
    return CifarResNet(depth, widths, classes)


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """Batch-norms as training leaves them: no statistic at its default, so that none can be forgotten."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            with torch.no_grad():
                ranges = {"weight": (0.5, 1.5), "bias": (-0.2, 0.2)}
                ranges |= {"running_mean": (-0.2, 0.2), "running_var": (0.5, 1.5)}
                for name, limits in ranges.items():
                    if getattr(part, name) is not None:
                        getattr(part, name).uniform_(*limits, generator=generator)
    return module


def model(widths: tuple[int, int, int, int] = NARROW, seed: int = 0, depth: int = 8) -> Model:
    """A narrow network whose answers are of all classes, so that to agree with it means something."""
    torch.manual_seed(seed)
    made = wrap(network(widths, depth), SIDE, seed)
    with torch.no_grad():
        made.network.fc.bias -= made(pictures(64, seed=99))[0].mean(0)  # type: ignore[union-attr]
    return made


def wrap(made: nn.Module, side: int, seed: int = 0) -> Model:
    """A network as the workshop handles it, its batch-norms alive."""
    return Model(lively(made, seed), MEAN, STD, *find_levels(made, square(side))).eval()


def square(side: int) -> tuple[int, int, int]:
    """The shape of a square image in RGB."""
    return 3, side, side


@cache
def calibrated() -> fx.GraphModule:
    made = prepare(model(seed=1), SHAPE)
    calibrate(made, [pictures(24)])
    return made


def graph() -> fx.GraphModule:
    """A fresh grid of ``model(seed=1)``, calibrated on ``pictures(24)``; captured once, as that takes seconds."""
    return copy.deepcopy(calibrated())


def layers(graph: fx.GraphModule) -> list[fx.Node]:
    """The convolutions and linear layers of a graph."""
    kinds = ("conv", "linear")
    return [
        n for n in graph.graph.nodes if n.op == "call_function" and any(k in str(n.target) for k in kinds)
    ]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """For arrays as small as these, threads wait for each other more than they work. Import it to have it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pictures(count: int, side: int = SIDE, seed: int = 0) -> Tensor:
    """Images in 0..1: noise over a shade of their own, so that they differ as wholes too."""
    generator = torch.Generator().manual_seed(seed)
    shade = torch.rand(count, 3, 1, 1, generator=generator)
    return (shade + 0.5 * torch.rand(count, 3, side, side, generator=generator)).clamp(0, 1)


def shapes_of(student: Model, teacher: Model) -> Shapes:
    return shapes(student, teacher, SHAPE, images=64)


def parts(model: Model) -> Parts:
    return Parts(model, model, "model")


def step(
    student: Model,
    teacher: Model,
    count: int = 6,
    dtype: torch.dtype = torch.float32,
    progress: float = 0.5,
    side: int = SIDE,
) -> Step:
    """One batch through both networks, the teacher at rest."""
    batch, labels = pictures(count, side).to(dtype), torch.arange(count) % CLASSES
    networks = (parts(student), parts(teacher.eval()))
    generator = torch.Generator().manual_seed(0)
    return Step(batch, labels, torch.arange(count), outputs(student(batch)), *networks, progress, generator)


def bound(name: str, student: Model, teacher: Model, **arguments: object) -> Callable[[Step], Tensor]:
    """A loss of the catalogue for two models, what it learns drawn from one seed."""
    torch.manual_seed(0)
    return bind(name, dict(arguments), shapes_of(student, teacher), "here")


def teacher_for(name: str) -> Model:
    """A teacher that a loss can take beside a NARROW student: fsp wants equal widths."""
    return model(NARROW if name == "fsp" else WIDE, seed=2)


class Fixed(Parts):
    """A network that says the same of the first image, the second and so on, whatever they show."""

    def __init__(self, parts: Parts, says: Outputs) -> None:
        super().__init__(parts.network, parts.like, parts.who)
        self.says = says

    def __call__(self, images: Tensor) -> Outputs:
        few = [x[: len(images)] for x in (self.says.logits, self.says.pooled, *self.says.stages)]
        return outputs(few)


def taught(step: Step, **changes: Any) -> Step:
    """The step with other answers of the teacher: ``logits``, ``pooled`` or ``stages``."""
    return replace(step, teacher_network=Fixed(step.teacher_network, step.teacher._replace(**changes)))


def freed(
    step: Step, change: Callable[[Tensor], Tensor] = lambda x: x, dtype: torch.dtype | None = None
) -> Step:
    """The step with the student's outputs as leaves that take a gradient; ``change`` is for its logits."""
    leaf = lambda x: x.detach().clone().to(dtype or x.dtype).requires_grad_()
    logits, pooled, stages = step.student[:3]
    return replace(step, student=Outputs(leaf(change(logits)), leaf(pooled), tuple(map(leaf, stages))))


def leaves(step: Step) -> list[Tensor]:
    return [step.student.logits, step.student.pooled, *step.student.stages]


def gradients(value: Tensor, step: Step) -> list[Tensor]:
    """By the student's outputs; zeros for those that the loss does not read."""
    found = torch.autograd.grad(value, leaves(step), allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves(step), strict=True)]


def write_set(
    folder: Path, counts: tuple[int, int, int] = (27, 12, 6), classes: int = 3, noise: int = 90
) -> Decoded:
    """A decoded set of train, validation and test images whose shade tells the class, under much noise."""
    generator = np.random.default_rng(0)
    total = sum(counts)
    labels = np.arange(total) % classes
    shades = generator.integers(40, 200, (classes, 3))
    noisy = shades[labels][:, None, None] + generator.normal(0, noise, (total, SIDE, SIDE, 3))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", noisy.clip(0, 255).astype(np.uint8))
    np.save(folder / "labels.npy", labels.astype(np.int64))
    np.save(folder / "split.npy", np.repeat(np.arange(3, dtype=np.int8), counts))
    names = [f"class{label}" for label in range(classes)]
    facts = Facts(tuple(names), Decoding((SIDE, SIDE)), True, MEAN, STD)
    (folder / "data.json").write_text(json.dumps(asdict(facts)))
    return decoded.read(folder)


def training(**changes: Any) -> Training:
    """A short training in float32, without a warm-up."""
    plain: dict[str, Any] = {"epochs": 3, "batch": 8, "lr": 0.05, "warmup": 0.0, "precision": "float32"}
    return Training(**{**plain, **changes})


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> list[str]:
    """The names of the tensors that differ in a bit, a shape or a type; empty when all are equal."""
    assert left.keys() == right.keys(), sorted(left.keys() ^ right.keys())
    return [
        name
        for name, tensor in left.items()
        if tensor.dtype != right[name].dtype or not torch.equal(tensor, right[name])
    ]


def state(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's tensors, to compare with later."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def kept(folder: Path) -> dict[str, Any]:
    """All that a training keeps, by path: networks, adapters, momenta, averages, bests, history."""

    def walk(value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, (dict, list)):
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            return {k: v for key, inner in pairs for k, v in walk(inner, f"{path}/{key}").items()}
        return {path: value}

    return walk(torch.load(folder / "here.pt", weights_only=True), "")


class Killed(Exception):
    """Stands for the end of the process."""


def losses(
    scheme: Scheme, batch: Batch, progress: float, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Those of a scheme of one phase."""
    (phase,) = scheme.phases(progress)
    return phase.losses(batch, generator or torch.Generator())


class Watched(Scheme):
    """A scheme that calls ``before`` with the number of each step, and may change its losses."""

    def __init__(self, scheme: Scheme, before: Callable[[int], float]) -> None:
        self.scheme, self.before, self.players, self.count = scheme, before, scheme.players, 0
        self.shown: list[tuple[int, ...]] = []

    @property
    def teachers(self) -> list[Parts]:
        return self.scheme.teachers

    def source(self, images: Iterator[Batch]) -> Iterator[Batch]:
        for batch in self.scheme.source(images):
            self.shown.append(tuple(batch.indices.tolist()))
            yield batch

    def phases(self, progress: float) -> list[Phase]:
        factor = self.before(self.count)
        self.count += 1
        return [replace(phase, losses=scaled(phase, factor)) for phase in self.scheme.phases(progress)]

    def state_dict(self) -> dict[str, Any]:
        return self.scheme.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scheme.load_state_dict(state)


def scaled(phase: Phase, factor: float) -> Callable[[Batch, torch.Generator], dict[str, Tensor]]:
    """The losses of a phase times a factor."""
    return lambda batch, generator: {
        name: loss * factor for name, loss in phase.losses(batch, generator).items()
    }


def die_at(step: int) -> Callable[[int], float]:
    def before(number: int) -> float:
        if number == step:
            raise Killed
        return 1.0

    return before
