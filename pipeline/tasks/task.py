"""What a training must know of a task: what is true of an image, what a network answers, and what an error costs.

There is one object a task, in ``TASKS``, beside the one of the same name in ``targets.tasks`` that judges. The labels
of a set are an array (N, ...) of what is true of each image, whatever the task; only its task knows what they mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.augmentation import Views
from pipeline.data.decoded import ImageShape
from targets.errors import Refusal


class Task(ABC):
    name: str
    # The kinds of losses of the catalogue that its answers can be taught by; others want the logits of classes.
    losses: frozenset[str] = frozenset({"feature", "relation"})

    @property
    def of_classes(self) -> bool:
        """Whether its answers are the logits of classes."""
        return "response" in self.losses

    @abstractmethod
    def answer(self, classes: Sequence[str], image: ImageShape) -> tuple[int, ...]:
        """The shape of a network's answer to one image."""

    @abstractmethod
    def loss(self, answers: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """(N,): what each answer (N, ...) costs beside its label.

        ``smoothing``: the share of the truth that is spread over all classes; 0 for tasks without classes.
        """

    @abstractmethod
    def score(self, answers: NDArray[np.float32], labels: NDArray[Any]) -> float:
        """0..1, of the images of a split: the best epoch is that of the highest."""

    @abstractmethod
    def same(self, mine: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
        """The share of the images, 0..1, that two networks answer alike."""

    def moved(self, labels: Tensor, views: Views, sides: tuple[int, int]) -> Tensor:
        """The labels of images that are shown in these views; ``sides``: an image's height and width."""
        return labels

    def check_training(self, smoothing: float, where: str) -> None:
        """Raises Refusal for settings that mean nothing to the task."""
        if smoothing and not self.of_classes:
            raise Refusal(
                f"{where}.label_smoothing: {self.name} has no classes to spread a label over; drop it"
            )
