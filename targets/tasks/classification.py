"""What the answers say: accuracy, what was lost against another network, the weakest class, agreement."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from targets.budgets.limits import Budgets
from targets.budgets.line import Line, Outcome, at_least, at_most, points
from targets.stats.intervals import Estimate, share
from targets.stats.paired import images_needed, paired_drop


@dataclass(frozen=True)
class Exam:
    """The questions and what the reference networks answered; arrays over the same N images."""

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    references: dict[str, NDArray[np.float32]]  # logits by name: "teacher", "float"


def drop(budget: str, limit: float, logits: NDArray[np.float32], exam: Exam, against: str) -> Line:
    reference = exam.references.get(against)
    if reference is None:
        return Line(
            budget, limit, "points", Outcome.NOT_MEASURED, note=f"no answers of the {against} to compare with"
        )
    if np.array_equal(logits, reference):  # the reference itself: nothing is estimated
        return at_most(budget, limit, "points", Estimate(0.0, 0.0, 0.0), "the same answers")
    (lost, won), count = flips(logits, reference, exam), len(exam.labels)
    line = at_most(
        budget, limit, "points", points(paired_drop(lost, won, count)), f"{lost} lost, {won} won of {count}"
    )
    if line.outcome is not Outcome.INCONCLUSIVE:
        return line
    return replace(line, note=f"{line.note}; {hint(images_needed(lost, won, count, limit / 100))}")


def flips(mine: NDArray[np.float32], theirs: NDArray[np.float32], exam: Exam) -> tuple[int, int]:
    """How many images only the other answers right, and how many only this one."""
    right, others = mine.argmax(1) == exam.labels, theirs.argmax(1) == exam.labels
    return int((others & ~right).sum()), int((right & ~others).sum())


def right_answers(logits: NDArray[np.float32], exam: Exam) -> int:
    return int((logits.argmax(1) == exam.labels).sum())


def accuracy(budget: str, limit: float, logits: NDArray[np.float32], exam: Exam) -> Line:
    right, count = right_answers(logits, exam), len(exam.labels)
    return at_least(budget, limit, "%", points(share(right, count)), f"{right} of {count} right")


def recalls(logits: NDArray[np.float32], exam: Exam, level: float) -> list[Estimate]:
    """Recall of each class that has images, in their order."""
    right = logits.argmax(1) == exam.labels
    counts = np.bincount(exam.labels, minlength=len(exam.classes))
    hits = np.bincount(exam.labels[right], minlength=len(exam.classes))
    return [share(int(h), int(n), level) for h, n in zip(hits, counts, strict=True) if n]


def worst_class(budget: str, limit: float, logits: NDArray[np.float32], exam: Exam) -> Line:
    """Every class must keep to it, so each interval is widened to hold for all at once (Bonferroni)."""
    present = np.unique(exam.labels)
    found = recalls(logits, exam, 1 - 0.05 / len(present))
    worst = min(range(len(found)), key=lambda i: found[i].value)
    bounds = Estimate(found[worst].value, min(f.low for f in found), min(f.high for f in found))
    name = exam.classes[int(present[worst])]
    return at_least(budget, limit, "%", points(bounds), f"class {name}")


def same_answers(mine: NDArray[np.float32], theirs: NDArray[np.float32]) -> Estimate:
    """The share of the images that both answer alike, right or wrong."""
    alike = mine.argmax(1) == theirs.argmax(1)
    return share(int(alike.sum()), len(alike))


def agreement(
    budget: str, limit: float, logits: NDArray[np.float32], theirs: NDArray[np.float32] | None, whose: str
) -> Line:
    """Same answers as another's, or not: with the largest difference of a logit, and what would decide."""
    if theirs is None:
        return Line(budget, limit, "%", Outcome.NOT_MEASURED, note=f"no {whose} was asked the same images")
    found, count = same_answers(logits, theirs), len(logits)
    note = f"{count} images, logits within {float(np.abs(logits - theirs).max()):.2g}"
    line = at_least(budget, limit, "%", points(found), note)
    if line.outcome is not Outcome.INCONCLUSIVE:
        return line
    return replace(line, note=f"{note}; {hint(images_for_share(found.value, limit / 100))}")


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


def hint(needed: int | None) -> str:
    return (
        "no number of images would prove it" if needed is None else f"about {needed:,} images would prove it"
    )


def numberless(logits: NDArray[np.float32]) -> list[Line]:
    """A failed line for answers that are no numbers, whatever the budgets are; nothing where all are numbers."""
    count = int((~np.isfinite(logits)).any(1).sum())
    if not count:
        return []
    note = f"{count} of {len(logits)} images are answered with what is no number"
    return [Line("finite", 0.0, "images", Outcome.FAIL, note=note)]


def accuracy_lines(
    budgets: Budgets, logits: NDArray[np.float32], exam: Exam, here: NDArray[np.float32] | None = None
) -> list[Line]:
    """``here``: what ONNX Runtime answers on this machine with the same weights."""
    lines = []
    if budgets.accuracy is not None:
        lines.append(accuracy("accuracy", budgets.accuracy, logits, exam))
    if budgets.drop_vs_teacher is not None:
        lines.append(drop("drop_vs_teacher", budgets.drop_vs_teacher, logits, exam, "teacher"))
    if budgets.drop_vs_float is not None:
        lines.append(drop("drop_vs_float", budgets.drop_vs_float, logits, exam, "float"))
    if budgets.drop_vs_baseline is not None:
        lines.append(drop("drop_vs_baseline", budgets.drop_vs_baseline, logits, exam, "baseline"))
    if budgets.agreement_vs_baseline is not None:
        baseline, limit = exam.references.get("baseline"), budgets.agreement_vs_baseline
        lines.append(agreement("agreement_vs_baseline", limit, logits, baseline, "baseline"))
    if budgets.agreement is not None:
        lines.append(agreement("agreement", budgets.agreement, logits, here, "ONNX Runtime"))
    if budgets.worst_class is not None:
        lines.append(worst_class("worst_class", budgets.worst_class, logits, exam))
    return lines
