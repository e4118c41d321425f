"""Classification: labels are the numbers of classes, (N,) int64, and a network answers with a logit a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.data.catalogue import Images, folder
from pipeline.data.decoded import ImageShape
from pipeline.tasks.label_set import LabelSet
from pipeline.tasks.task import Task
from targets.errors import Refusal
from targets.tasks.classification import right


class ClassLabels(LabelSet):
    def folder(self, root: Path) -> Images:
        return folder(root)

    def check(self, source: Images) -> None:
        classes, labels = len(source.classes), source.labels
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise Refusal(
                f"data: labels are {labels.dtype} of {labels.ndim} dimensions; give the number of a class an image"
            )
        if source.labels.min() < 0 or source.labels.max() >= classes:
            raise Refusal(f"data: labels run to {source.labels.max()} but there are {classes} classes")
        free = source.labels if source.test is None else source.labels[~source.test]
        need = 3 if source.test is None else 2
        counts = np.bincount(free, minlength=classes)
        if counts.min() < need:
            few = source.classes[int(counts.argmin())]
            raise Refusal(
                f"data: class '{few}' has {counts.min()} images; {need} are needed (train, validation, test)"
            )

    def groups(self, source: Images) -> NDArray[np.int64]:
        return source.labels


class Classification(Task):
    name = "classification"
    losses = frozenset({"response", "feature", "relation"})

    def answer(self, classes: Sequence[str], image: ImageShape) -> tuple[int, ...]:
        return (len(classes),)

    def loss(self, answers: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(answers, labels, label_smoothing=smoothing, reduction="none")

    def score(self, answers: NDArray[np.float32], labels: NDArray[Any]) -> float:
        """Accuracy."""
        return float(right(answers, labels).mean())

    def same(self, mine: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
        return float(right(mine, theirs.argmax(1)).mean())
