"""A task from outside the package, in one object a side: where in an image is its bright square?

A label is the middle of the square (row, column) in 0..1; a network answers with two numbers; what an answer is
worth falls with its distance from the truth, and is neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.augmentation import Views
from pipeline.data.catalogue import Images
from pipeline.data.decoded import ImageShape
from pipeline.tasks.label_set import LabelSet
from pipeline.tasks.task import Task
from targets.budgets.budget import SHARE, Budget, Found
from targets.budgets.evidence import Answers, Evidence
from targets.budgets.line import points
from targets.errors import Refusal
from targets.quantize.images import any_images
from targets.tasks.task import Examples, Records, estimate
from targets.tasks.task import Task as Judged

FAR = 0.5  # of an image: an answer so far off is worth nothing


def worth(answers: Answers, truth: NDArray[Any]) -> NDArray[np.float64]:
    return 1 - np.minimum(np.linalg.norm(answers - truth, axis=1) / FAR, 1)


def nearness(evidence: Evidence) -> Found:
    records = worth(evidence.candidate.logits, evidence.test_set.labels)
    return Found(points(estimate(LOCATE_JUDGED, records)), f"{len(records)} images")


class LocateJudged(Judged):
    name, metric = "locate", "nearness"
    budgets = (Budget("nearness", "%", "at_least", "how near the answers are", SHARE, "answers", nearness),)

    def records(self, answers: Answers, truth: NDArray[Any]) -> Records:
        return worth(answers, truth)

    def same(self, mine: Answers, theirs: Answers) -> Records:
        return worth(mine, theirs)

    def as_truth(self, answers: Answers) -> NDArray[Any]:
        return answers

    def examples(self, folder: Path, classes: tuple[str, ...], width: int) -> Examples:
        """The label is in a file's name: ``17 0.25 0.5.png``."""
        paths, _ = any_images(folder)
        found = [[float(number) for number in path.stem.split()[1:]] for path in paths]
        return Examples(paths, np.array(found, np.float32), classes)


class Squares(LabelSet):
    def check(self, source: Images) -> None:
        if source.labels.shape[1:] != (2,) or source.labels.min() < 0 or source.labels.max() > 1:
            raise Refusal("data: a label is a row and a column in 0..1")


class Locate(Task):
    name = "locate"

    def answer(self, classes: Sequence[str], image: ImageShape) -> tuple[int, ...]:
        return (2,)

    def loss(self, answers: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        return (answers - labels).square().sum(1)

    def score(self, answers: NDArray[np.float32], labels: NDArray[Any]) -> float:
        return float(worth(answers, labels).mean())

    def same(self, mine: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
        return float(worth(mine, theirs).mean())

    def moved(self, labels: Tensor, views: Views, sides: tuple[int, int]) -> Tensor:
        """A shifted image shifts its square, a mirrored one has it on the other side."""
        padding = torch.tensor([side // 8 for side in sides], device=labels.device)
        shifted = labels + (padding - views.corners) / torch.tensor(sides, device=labels.device)
        across = torch.where(views.mirrored, 1 - shifted[:, 1], shifted[:, 1])
        return torch.stack([shifted[:, 0], across], 1)


LOCATE_JUDGED, LOCATE, SQUARES = LocateJudged(), Locate(), Squares()
