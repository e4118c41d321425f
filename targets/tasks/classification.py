"""Classification: of each image, which one of several classes it shows.

A network answers with a number a class (logits); its answer is the class of the largest. A record is whether that
is right, and the score, accuracy, is the share of right answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.budgets.budget import POINTS, SHARE, Budget, Found
from targets.budgets.evidence import Answers, Evidence, TestSet
from targets.budgets.line import points
from targets.errors import Refusal
from targets.image_folder import class_folders
from targets.stats.intervals import Estimate, share
from targets.tasks.task import Examples, Records, Task


def right(logits: Answers, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,): whether the largest of each image's logits (N, classes) is its class's."""
    return np.asarray(logits.argmax(1) == labels)


def recalls(right: Records, test_set: TestSet, level: float) -> list[Estimate]:
    """Recall of each class that has images, in their order."""
    counts = np.bincount(test_set.labels, minlength=len(test_set.classes))
    hits = np.bincount(test_set.labels[right], minlength=len(test_set.classes))
    return [share(int(h), int(n), level) for h, n in zip(hits, counts, strict=True) if n]


def accuracy(evidence: Evidence) -> Found:
    found = right(evidence.candidate.logits, evidence.test_set.labels)
    return Found(points(share(int(found.sum()), len(found))), f"{int(found.sum())} of {len(found)} right")


def worst_class(evidence: Evidence) -> Found:
    """Every class must keep to it, so each interval is widened to hold for all at once (Bonferroni)."""
    test_set = evidence.test_set
    present = np.unique(test_set.labels)
    found = recalls(right(evidence.candidate.logits, test_set.labels), test_set, 1 - 0.05 / len(present))
    worst = min(range(len(found)), key=lambda i: found[i].value)
    bounds = Estimate(found[worst].value, min(f.low for f in found), min(f.high for f in found))
    return Found(points(bounds), f"class {test_set.classes[int(present[worst])]}")


class Classification(Task):
    name = "classification"
    metric = "accuracy"
    budgets = (
        Budget(
            "accuracy",
            "%",
            "at_least",
            "share of the test images that are answered right",
            SHARE,
            "answers",
            accuracy,
        ),
        Budget("worst_class", "%", "at_least", "recall of the weakest class", POINTS, "answers", worst_class),
    )

    def records(self, answers: Answers, truth: NDArray[Any]) -> Records:
        return right(answers, truth)

    def same(self, mine: Answers, theirs: Answers) -> Records:
        return right(mine, self.as_truth(theirs))

    def as_truth(self, answers: Answers) -> NDArray[np.int64]:
        return np.asarray(answers.argmax(1))

    def checked_truth(self, truth: NDArray[Any], classes: tuple[str, ...]) -> NDArray[Any]:
        if truth.ndim != 1 or truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= len(classes):
            raise ValueError("the labels are not one class of the contract for each image")
        return truth.astype(np.int64)

    def check_answers(self, answers: Answers, classes: tuple[str, ...]) -> None:
        if answers.ndim != 2 or answers.shape[1] != (len(classes) or answers.shape[1]):
            wanted = f"one row of {len(classes) or 'its'} classes an image is judged"
            raise ValueError(f"answers of shape {answers.shape}; {wanted}")

    def examples(self, folder: Path, classes: tuple[str, ...], width: int) -> Examples:
        """Of class folders; the order of the classes is the file's own, or the folders' sorted one."""
        paths, folders = class_folders(folder)
        odd = sorted(set(folders) - set(classes)) if classes else []
        if odd:
            told = ", ".join(classes[:8])
            raise Refusal(f"{folder}: folder '{odd[0]}' is no class of the model ({told})")
        if not classes and width not in (0, len(folders)):
            raise Refusal(f"{folder}: {len(folders)} class folders, but the model answers {width} classes")
        names = classes or folders
        labels = np.array([names.index(path.parent.name) for path in paths], dtype=np.int64)
        return Examples(paths, labels, names)

    def facts(self, truth: NDArray[Any], classes: tuple[str, ...]) -> dict[str, Any]:
        return {"class_images": np.bincount(truth, minlength=len(classes)).tolist()}

    def details(self, records: Records, test_set: TestSet) -> dict[str, Any]:
        return {"recall": [vars(found) for found in recalls(records, test_set, 0.95)]}
