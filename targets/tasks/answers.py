"""The budgets that every task has: what is lost against another network, and how often two answer alike."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from targets.budgets.budget import POINTS, SHARE, Budget, Found
from targets.budgets.evidence import Answers, Evidence
from targets.budgets.line import Line, Outcome, points
from targets.stats.bootstrap import examples_needed
from targets.stats.intervals import Estimate, share
from targets.tasks import TASKS
from targets.tasks.task import found_drop, mean_of


def drop(evidence: Evidence, against: str) -> Found:
    """The score lost against another network on the same examples, by pairs."""
    mine, theirs = evidence.candidate.logits, evidence.answers.get(against)
    if theirs is None:
        return Found(None, f"no answers of the {against} to compare with")
    if np.array_equal(mine, theirs):  # the reference itself: nothing is estimated
        return Found(Estimate(0.0, 0.0, 0.0), "the same answers")
    test_set = evidence.test_set
    task = TASKS[test_set.task]
    return found_drop(task, *(task.records(answers, test_set.labels) for answers in (mine, theirs)))


def agreement_with_baseline(evidence: Evidence) -> Found:
    return agreement(evidence, evidence.answers.get("baseline"), "baseline")


def agreement_with_onnx_runtime(evidence: Evidence) -> Found:
    return agreement(evidence, evidence.candidate.here, "ONNX Runtime")


def agreement(evidence: Evidence, theirs: Answers | None, whose: str) -> Found:
    """Same answers as another's, or not: with the largest difference of a number, and what would decide."""
    if theirs is None:
        return Found(None, f"no {whose} was asked the same images")
    mine, task = evidence.candidate.logits, TASKS[evidence.test_set.task]
    alike = task.same(mine, theirs)
    found = mean_of(alike)
    note = f"{len(mine)} images, logits within {float(np.abs(mine - theirs).max()):.2g}"
    if alike.dtype == np.bool_:
        return Found(points(found), note, lambda limit: images_for_share(found.value, limit / 100))
    return Found(points(found), note, lambda limit: examples_needed(found, len(mine), limit / 100))


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


def not_finite_line(answers: Answers) -> Line | None:
    """A failed line for answers that are no numbers, whatever the budgets are; None where all are numbers."""
    count = int((~np.isfinite(answers)).reshape(len(answers), -1).any(1).sum())
    if not count:
        return None
    note = f"{count} of {len(answers)} images are answered with what is no number"
    return Line("finite", 0.0, "images", Outcome.FAIL, note=note, meaning="every answer is a number")


ANSWERS = (
    *(
        Budget(
            f"drop_vs_{name}",
            "points",
            "at_most",
            f"accuracy or other score lost against the {whom}",
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
)
