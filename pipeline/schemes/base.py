"""What a scheme is: who learns from whom, as the one training loop asks for it.

A scheme has named players. In each step the loop draws one batch from the scheme's source and goes through the phases
in their order: it sums a phase's losses, makes one backward pass, and steps the players that the phase names.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.data.batches import Batch
from pipeline.data.decoded import Decoded
from pipeline.models.split_model import Parts
from pipeline.models.tapped_model import Model
from pipeline.recipe.schema import Distill, Optimiser
from pipeline.schemes.labels import Labels
from pipeline.tasks import TASKS
from pipeline.tasks.task import Task
from targets.errors import Refusal


@dataclass
class Player:
    """A network that learns, and how: with which adapters, by which optimiser, how often."""

    network: nn.Module
    adapters: nn.ModuleList = field(default_factory=nn.ModuleList)  # of its losses; they never ship
    optimiser: Optimiser | None = None  # None: as the training's settings say
    every: int = 1  # it is stepped in the training's steps 0, every, 2 · every, …
    validated: bool = True  # a classifier, of which the best state on validation is left; else the last is

    @property
    def modules(self) -> tuple[nn.Module, nn.Module]:
        return self.network, self.adapters


@dataclass(frozen=True)
class Phase:
    """Some players, and the losses (scalars by name) that they learn from; computed when the phase's turn comes.

    The generator that ``losses`` is given draws the same on every rank; torch's own draws otherwise on each. A phase
    computes its graph itself: of one before it nothing is left, and players have been stepped since.
    """

    players: tuple[str, ...]
    losses: Callable[[Batch, torch.Generator], dict[str, Tensor]]


class Scheme(ABC):
    """What the loop asks of a scheme.

    The first of the ``players`` is the one that ships, and is validated. No parameter belongs to two of them.
    """

    players: dict[str, Player]

    @property
    def teachers(self) -> list[Parts]:
        """The networks that are evaluated and do not learn."""
        return []

    def source(self, images: Iterator[Batch]) -> Iterator[Batch]:
        """The batches of an epoch, of this rank: at least as many as ``images`` has, the training images in views.

        They may be drawn from ``images``, which fetches none that is not asked for, or be made here with torch's own
        random numbers, which are seeded before.
        """
        return images

    @abstractmethod
    def phases(self, progress: float) -> list[Phase]:
        """The phases of one step, when a share ``progress`` (0..1) of the training is done."""

    def state_dict(self) -> dict[str, Any]:
        """What the scheme keeps from step to step beyond its players: tensors and numbers, in dicts and lists.

        It is equal on all ranks.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state, whose tensors are in the processor's memory."""
        assert not state, "a scheme that keeps a state loads it too"


@dataclass(frozen=True)
class Setup:
    """What a scheme is made from: the recipe's section, its networks and its images."""

    student: nn.Module  # what ships: a model in float, or its int8 grid
    like: Model  # the student as a plain model, which has its feature levels
    teachers: Sequence[Model]
    data: Decoded
    recipe: Distill
    where: str  # the section's name, for errors and files
    scratch: Path  # what a scheme may keep on disk while it trains
    fresh: Callable[[str], Model] | None = None  # makes a network by its name, where the student is fresh too

    @property
    def task(self) -> Task:
        return TASKS[self.data.facts.task]

    @property
    def labels(self) -> Labels:
        """The loss of the labels as the section says."""
        return Labels(self.task, self.recipe.label_smoothing, self.recipe.label_weight)

    def peer(self, name: str) -> Model:
        """A further network that learns; "student" is one of the student's kind, of a trained one a copy in float."""
        if self.fresh is not None:
            return self.fresh(name)
        if name != "student":
            raise Refusal(
                f'{self.where}.scheme: a peer of a trained student is a copy of it: write "student"'
            )
        return copy.deepcopy(self.like)


@dataclass(frozen=True)
class Entry:
    """A line of the catalogue of schemes: a function of a setup and hyper-parameters, and what a user must know."""

    make: Callable[..., Scheme]
    paper: str
    when: str  # to use it, in a line
    cost: str  # beside plain training of the student
    teachers: Literal["needed", "optional", "none"]  # of the recipe
    keys: frozenset[str]  # those of ``TAUGHT`` that it reads; another is refused where it is set
    any_task: bool = False  # it does not look at the logits of classes itself


# The keys of a section that say how a student is taught, beyond how a network is trained.
TAUGHT = frozenset({"label_weight", "loss", "teachers", "shares", "replay"})


@contextmanager
def held(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within, no gradient reaches their parameters; after it, their buffers (running statistics) are as before."""
    own = list(modules)
    learning = [p for module in own for p in module.parameters() if p.requires_grad]
    before = [{name: buffer.clone() for name, buffer in module.named_buffers()} for module in own]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        with torch.no_grad():
            for module, kept in zip(own, before, strict=True):
                for name, buffer in module.named_buffers():
                    buffer.copy_(kept[name])
