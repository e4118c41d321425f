"""What the line must know of a task in order to judge: what an example is, and what an answer to it is worth.

A network answers an example with an array; a record is what such an answer is worth beside the truth, and a score
is made of the records of all test examples. There is one object a task, in ``TASKS``. What judges, reports or
compares calls its methods, so that a new task is its file here and its file in ``pipeline/tasks``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.budgets.budget import Budget, Found
from targets.budgets.evidence import Answers, TestSet
from targets.budgets.line import points
from targets.errors import Refusal
from targets.stats.bootstrap import examples_needed, resampled
from targets.stats.intervals import LEVEL, Estimate, share
from targets.stats.paired import images_needed, paired_drop

Records = NDArray[Any]  # (N, ...), one an example; (N,) of bool where an answer is right or wrong


@dataclass(frozen=True)
class Examples:
    """Files of images, and what is true of each."""

    paths: list[Path]
    truth: NDArray[Any]  # (N, ...)
    classes: tuple[str, ...]


class Task(ABC):
    """One kind of question. Scores and agreement are shares, 0..1, of which more is better."""

    name: str
    metric: str  # what its score is called: the column of the report, and the key of report.json
    dims = 2  # of its answers: a row an image
    budgets: tuple[Budget, ...] = ()  # its own; those that every task has are in ``answers``

    @abstractmethod
    def records(self, answers: Answers, truth: NDArray[Any]) -> Records:
        """What each answer is worth."""

    @abstractmethod
    def same(self, mine: Answers, theirs: Answers) -> Records:
        """How far two answers to each example agree: (N,) of bool, or of numbers 0..1."""

    @abstractmethod
    def as_truth(self, answers: Answers) -> NDArray[Any]:
        """Answers taken for the truth, where examples have no labels."""

    def checked_truth(self, truth: NDArray[Any], classes: tuple[str, ...]) -> NDArray[Any]:
        """An array that somebody else has written, as the truth. Raises ValueError for what it cannot be."""
        return truth

    def check_answers(self, answers: Answers, classes: tuple[str, ...]) -> None:
        """Raises ValueError for answers of a shape that cannot be judged."""
        if not answers.size:
            raise ValueError(f"answers of shape {answers.shape}: nothing is to be judged")

    def score(self, records: Records) -> float:
        """Of the records of any number of examples. A task with records of bool leaves it at their mean."""
        return float(records.mean())

    def examples(self, folder: Path, classes: tuple[str, ...], width: int) -> Examples:
        """The labelled examples of a folder, for a file with these names of classes (or none) and answers of so
        many numbers (0: unknown). Raises Refusal."""
        raise Refusal(f"{folder}: examples of {self.name} are not read from a folder")

    def facts(self, truth: NDArray[Any], classes: tuple[str, ...]) -> dict[str, Any]:
        """What else the report tells of the test set."""
        return {}

    def details(self, records: Records, test_set: TestSet) -> dict[str, Any]:
        """What else the report tells of one network's answers."""
        return {}


def estimate(task: Task, records: Records, level: float = LEVEL) -> Estimate:
    """A task's score with its interval: exact for right and wrong, else by drawing the examples anew."""
    return estimate_of(task.score, records, level)


def same_answers(task: Task, mine: Answers, theirs: Answers) -> Estimate:
    """The share of the examples that both answer alike, right or wrong."""
    return mean_of(task.same(mine, theirs))


def mean_of(records: Records) -> Estimate:
    return estimate_of(lambda some: float(some.mean()), records)


def estimate_of(score: Callable[[Records], float], records: Records, level: float = LEVEL) -> Estimate:
    if records.dtype == np.bool_:
        return share(int(records.sum()), len(records), level)
    return resampled(lambda drawn: score(records[drawn]), len(records), level)


def estimate_drop(task: Task, mine: Records, theirs: Records) -> Estimate:
    """How much lower my score is than theirs on the same examples."""
    if mine.dtype == np.bool_:
        return paired_drop(*discordant_pairs(mine, theirs), len(mine))
    return resampled(lambda drawn: task.score(theirs[drawn]) - task.score(mine[drawn]), len(mine))


def found_drop(task: Task, mine: Records, theirs: Records) -> Found:
    """The drop in points, and how many examples would decide it."""
    found, count = estimate_drop(task, mine, theirs), len(mine)
    told = points(found)
    if mine.dtype == np.bool_:
        lost, won = discordant_pairs(mine, theirs)
        needed = lambda limit: images_needed(lost, won, count, limit / 100)
        return Found(told, f"{lost} lost, {won} won of {count}", needed)
    note = f"{task.metric} {task.score(mine):.4f} and {task.score(theirs):.4f} of {count}"
    return Found(told, note, lambda limit: examples_needed(told, count, limit))


def discordant_pairs(mine: Records, theirs: Records) -> tuple[int, int]:
    """How many examples only the other answers right, and how many only this one; of records of bool."""
    return int((theirs & ~mine).sum()), int((mine & ~theirs).sum())
