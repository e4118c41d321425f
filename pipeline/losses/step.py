"""What a loss sees of one training step, and what the catalogue says of a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.models.split_model import Parts
from pipeline.models.tapped_model import Outputs


@dataclass(frozen=True)
class Step:
    """One batch of N images, what the student says of it, and both networks to ask more of.

    The networks can be fed other images, ``network(images)``, or features: ``network.stage(i, x)`` from tap
    i − 1 to tap i, ``network.head(pooled)``. No gradient reaches the teacher's parameters.
    """

    images: Tensor  # (N, 3, H, W) in 0..1
    labels: Tensor  # (N,) int64
    indices: Tensor  # (N,) int64, which images of the set
    student: Outputs
    student_network: Parts
    teacher_network: Parts
    progress: float  # share of the training that is done, 0..1
    generator: torch.Generator
    replay: Callable[[], Outputs] | None = None  # what the teacher said of the batch before, if that is kept

    @cached_property
    def teacher(self) -> Outputs:
        """What the teacher says of the batch, without gradient; a method that does not look spares the pass."""
        if self.replay is not None:
            return self.replay()
        with torch.no_grad():
            return self.teacher_network(self.images)


@dataclass(frozen=True)
class Shapes:
    """The shapes of the features, without the batch: what a learning loss is made from."""

    student: tuple[tuple[int, int, int], ...]  # (C, H, W) of each stage
    teacher: tuple[tuple[int, int, int], ...]
    student_pooled: int
    teacher_pooled: int
    classes: int
    images: int  # of the whole set, for memory banks: an index is below it


@dataclass(frozen=True)
class Entry:
    """A line of the catalogue."""

    loss: Callable[..., Any]
    weight: float
    kind: Literal["response", "feature", "relation"]
    paper: str
    cost: str = "none"  # what the method adds: parameters while training, passes through a network
    ramp: float = 0.0  # share of the training in which the weight rises from 0
    stop: float = 1.0  # share of the training after which the weight is 0


def constant_logits(network: Callable[[Tensor], Sequence[Any]], images: Tensor) -> Tensor:
    """What a network answers to images, (N, C), as a constant: no gradient goes through it."""
    with torch.no_grad():
        return full(network(images)[0])


def full(x: Tensor) -> Tensor:
    """Half precision widened to float32, for sums and logarithms; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
