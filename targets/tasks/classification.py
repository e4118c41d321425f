"""What the answers say: accuracy, what was lost against another network, the weakest class, agreement.

A network's answer to an image is the class with the largest logit. ``CLASSIFICATION`` holds the budgets of this task.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from targets.budgets.budget import POINTS, SHARE, Budget, Found
from targets.budgets.evidence import Evidence, TestSet
from targets.budgets.line import Line, Outcome, points
from targets.stats.intervals import Estimate, share
from targets.stats.paired import images_needed, paired_drop


def drop(evidence: Evidence, against: str) -> Found:
    """Accuracy lost against another network on the same images, by pairs."""
    logits, reference = evidence.candidate.logits, evidence.answers.get(against)
    if reference is None:
        return Found(None, f"no answers of the {against} to compare with")
    if np.array_equal(logits, reference):  # the reference itself: nothing is estimated
        return Found(Estimate(0.0, 0.0, 0.0), "the same answers")
    (lost, won), count = discordant_pairs(logits, reference, evidence.test_set), len(evidence.test_set.labels)
    return Found(
        points(paired_drop(lost, won, count)),
        f"{lost} lost, {won} won of {count}",
        lambda limit: images_needed(lost, won, count, limit / 100),
    )


def discordant_pairs(
    mine: NDArray[np.float32], theirs: NDArray[np.float32], test_set: TestSet
) -> tuple[int, int]:
    """How many images only the other answers right, and how many only this one."""
    right, others = mine.argmax(1) == test_set.labels, theirs.argmax(1) == test_set.labels
    return int((others & ~right).sum()), int((right & ~others).sum())


def right_answers(logits: NDArray[np.float32], test_set: TestSet) -> int:
    return int((logits.argmax(1) == test_set.labels).sum())


def accuracy(evidence: Evidence) -> Found:
    right, count = right_answers(evidence.candidate.logits, evidence.test_set), len(evidence.test_set.labels)
    return Found(points(share(right, count)), f"{right} of {count} right")


def recalls(logits: NDArray[np.float32], test_set: TestSet, level: float) -> list[Estimate]:
    """Recall of each class that has images, in their order."""
    right = logits.argmax(1) == test_set.labels
    counts = np.bincount(test_set.labels, minlength=len(test_set.classes))
    hits = np.bincount(test_set.labels[right], minlength=len(test_set.classes))
    return [share(int(h), int(n), level) for h, n in zip(hits, counts, strict=True) if n]


def worst_class(evidence: Evidence) -> Found:
    """Every class must keep to it, so each interval is widened to hold for all at once (Bonferroni)."""
    test_set = evidence.test_set
    present = np.unique(test_set.labels)
    found = recalls(evidence.candidate.logits, test_set, 1 - 0.05 / len(present))
    worst = min(range(len(found)), key=lambda i: found[i].value)
    bounds = Estimate(found[worst].value, min(f.low for f in found), min(f.high for f in found))
    return Found(points(bounds), f"class {test_set.classes[int(present[worst])]}")


def same_answers(mine: NDArray[np.float32], theirs: NDArray[np.float32]) -> Estimate:
    """The share of the images that both answer alike, right or wrong."""
    alike = mine.argmax(1) == theirs.argmax(1)
    return share(int(alike.sum()), len(alike))


def agreement_with_baseline(evidence: Evidence) -> Found:
    return agreement(evidence.candidate.logits, evidence.answers.get("baseline"), "baseline")


def agreement_with_onnx_runtime(evidence: Evidence) -> Found:
    return agreement(evidence.candidate.logits, evidence.candidate.here, "ONNX Runtime")


def agreement(logits: NDArray[np.float32], theirs: NDArray[np.float32] | None, whose: str) -> Found:
    """Same answers as another's, or not: with the largest difference of a logit, and what would decide."""
    if theirs is None:
        return Found(None, f"no {whose} was asked the same images")
    found = same_answers(logits, theirs)
    note = f"{len(logits)} images, logits within {float(np.abs(logits - theirs).max()):.2g}"
    return Found(points(found), note, lambda limit: images_for_share(found.value, limit / 100))


def images_for_share(value: float, limit: float, most: int = 10_000_000) -> int | None:
    """About how many images would prove ``share ≥ limit`` if it stayed what it was seen to be; None if never."""
    if value <= limit:
        return None
    count = 1
    while share(round(value * count), count).low < limit:
        count = math.ceil(1.05 * count)
        if count > most:
            return None
    return count


def not_finite_line(logits: NDArray[np.float32]) -> Line | None:
    """A failed line for answers that are no numbers, whatever the budgets are; None where all are numbers."""
    count = int((~np.isfinite(logits)).any(1).sum())
    if not count:
        return None
    note = f"{count} of {len(logits)} images are answered with what is no number"
    return Line("finite", 0.0, "images", Outcome.FAIL, note=note, meaning="every answer is a number")


CLASSIFICATION = (
    Budget(
        "accuracy",
        "%",
        "at_least",
        "share of the test images that are answered right",
        SHARE,
        "answers",
        accuracy,
    ),
    *(
        Budget(
            f"drop_vs_{name}",
            "points",
            "at_most",
            f"accuracy lost against the {whom}",
            POINTS,
            "answers",
            partial(drop, against=name),
        )
        for name, whom in (("teacher", "teacher"), ("float", "float candidate"), ("baseline", "baseline"))
    ),
    Budget(
        "agreement_vs_baseline",
        "%",
        "at_least",
        "share of the test images that are answered as the baseline does",
        SHARE,
        "answers",
        agreement_with_baseline,
    ),
    Budget(
        "agreement",
        "%",
        "at_least",
        "share of the test images that are answered as ONNX Runtime does here with the same weights",
        SHARE,
        "answers",
        agreement_with_onnx_runtime,
    ),
    Budget("worst_class", "%", "at_least", "recall of the weakest class", POINTS, "answers", worst_class),
)
