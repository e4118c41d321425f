"""The catalogue of distillation losses.

A loss is a function ``(step, *, hyper-parameters) -> scalar``, or a module made from the shapes of both
networks' features when it learns something itself. A method in a recipe is a list of (loss, weight).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from pipeline.data.decoded import ImageShape
from pipeline.hyperparameters import check_arguments
from pipeline.losses.attention import ATTENTION
from pipeline.losses.contrast import CONTRAST
from pipeline.losses.flow import FLOW
from pipeline.losses.heads import HEADS
from pipeline.losses.hints import HINTS
from pipeline.losses.lessons import LESSONS
from pipeline.losses.maps import MAPS
from pipeline.losses.matching import MATCHING
from pipeline.losses.relation import RELATION
from pipeline.losses.resets import RESETS
from pipeline.losses.response import RESPONSE
from pipeline.losses.reviews import REVIEWS
from pipeline.losses.step import Entry, Shapes, Step
from pipeline.losses.transfer import TRANSFER
from pipeline.models.tapped_model import Model, outputs, probe
from targets.errors import Refusal, unknown

LOSSES: dict[str, Entry] = {
    **RESPONSE,
    **LESSONS,
    **HINTS,
    **MAPS,
    **RESETS,
    **HEADS,
    **ATTENTION,
    **REVIEWS,
    **MATCHING,
    **TRANSFER,
    **RELATION,
    **FLOW,
    **CONTRAST,
}

Bound = Callable[[Step], Tensor]


class Line(Protocol):
    """A loss as a recipe names it."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> float | None: ...
    @property
    def ramp(self) -> float | None: ...
    @property
    def stop(self) -> float | None: ...
    @property
    def arguments(self) -> dict[str, Any]: ...


def bind(name: str, arguments: dict[str, Any], shapes: Shapes, where: str) -> Bound:
    """The loss with its hyper-parameters set, ready for a step.

    Raises Refusal for an unknown name, an unknown or missing hyper-parameter, and for networks whose
    shapes the method cannot take.
    """
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES, where)
    loss = LOSSES[name].loss
    check_arguments(name, loss, arguments, where)
    try:
        return loss(shapes, **arguments) if isinstance(loss, type) else partial(loss, **arguments)
    except (ValueError, TypeError) as error:
        raise Refusal(f"{where}: {name}: {error}") from None


@dataclass(frozen=True)
class Term:
    """A loss of the objective and the course of its weight."""

    loss: Bound
    weight: float
    ramp: float
    stop: float

    def weight_at(self, progress: float) -> float:
        """The weight after a share of the training: it rises over ``ramp`` and is 0 from ``stop`` on."""
        if progress >= self.stop:
            return 0.0
        return self.weight * min(1.0, progress / self.ramp) if self.ramp else self.weight


def bind_losses(lines: Sequence[Line], shapes: Shapes, where: str) -> list[Term]:
    """A recipe's lines as terms; what a line does not say of its weight is the catalogue's."""
    terms = []
    for line in lines:
        loss, entry = bind(line.name, line.arguments, shapes, where), LOSSES[line.name]
        given = {"weight": line.weight, "ramp": line.ramp, "stop": line.stop}
        terms.append(Term(loss, **{k: getattr(entry, k) if v is None else v for k, v in given.items()}))
    return terms


def shapes(student: Model, teacher: Model, image: ImageShape, images: int) -> Shapes:
    """The shapes of two models' features, by asking both about images of one shape."""
    both = [outputs(probe(model, image)) for model in (student, teacher)]
    stages = [tuple((f.shape[1], f.shape[2], f.shape[3]) for f in out.stages) for out in both]
    pooled = [out.pooled.shape[1] for out in both]
    return Shapes(stages[0], stages[1], pooled[0], pooled[1], both[0].logits.shape[1], images)


def modules_of(terms: Sequence[Term]) -> nn.ModuleList:
    """The losses that learn, for the optimiser and the checkpoint."""
    return nn.ModuleList(term.loss for term in terms if isinstance(term.loss, nn.Module))
