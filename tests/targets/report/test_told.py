"""Numbers and words of a report beside what they are of: throughput, speed-up, the pictures' scale, the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from support.report_table import build
from support.verdicts import CLASSES, LABELS, answers, measured
from targets.budgets.evidence import TestSet
from targets.errors import FAILED, PASSED, UNDECIDED
from targets.report import figures, render
from targets.report.table import compose, latency_table
from targets.report.terminal import headline


def test_throughput_is_of_images_and_not_of_calls() -> None:
    found = measured(answers([]), [2.0] * 5)
    assert latency_table(found, batch=1)["images_per_second"] == pytest.approx(500)
    assert latency_table(found, batch=8)["images_per_second"] == pytest.approx(4000)


def test_a_speed_up_is_how_many_times_as_fast_and_its_interval_turns_round_too() -> None:
    cell = render.speedup({"speed_vs_float": {"value": 0.5, "low": 0.4, "high": 0.8}})
    assert cell is not None and (cell.text, cell.interval) == ("2.00", "[1.25, 2.50]")
    endless = render.speedup({"speed_vs_float": {"value": 0.5, "low": 0.0, "high": 0.8}})
    assert endless is not None and endless.interval == "[1.25, ∞]"


@pytest.mark.parametrize("picture", [figures.ladder, figures.tradeoff])
def test_a_picture_s_scores_lie_within_its_own_axis(picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The score is drawn in per cent, as the axis says, and no point falls off it."""
    table, real, drawn = build(), figures.drawing, list[Figure]()

    @contextmanager
    def drawing(width: float, height: float) -> Iterator[Figure]:
        with real(width, height) as figure:
            drawn.append(figure)
            yield figure

    monkeypatch.setattr(figures, "drawing", drawing)
    picture(table)
    (axes,) = drawn[0].axes
    across = picture is figures.ladder
    low, high = axes.get_xlim() if across else axes.get_ylim()
    told = axes.get_xlabel() if across else axes.get_ylabel()
    points = [line.get_xdata() if across else line.get_ydata() for line in axes.get_lines()]
    scores = [100 * step.found["accuracy"]["value"] for step in figures.rungs(table)]
    wanted = scores if across else scores[len(table["networks"]) :]
    values = [float(np.asarray(one)[0]) for one in points if len(one) == 1]
    assert told == "accuracy, %" and set(np.round(values, 6)) >= set(np.round(wanted, 6))
    assert all(low <= value <= high for value in values)


def target(status: int, *outcomes: str) -> dict[str, Any]:
    lines = [{"budget": f"budget {number}", "outcome": one} for number, one in enumerate(outcomes)]
    return {"status": status, "ship": "int8", "lines": lines}


def test_a_headline_says_what_the_verdict_came_to() -> None:
    assert headline(target(PASSED, "PASS")) == "int8 ships"
    assert headline(target(FAILED, "PASS", "FAIL")) == "int8 breaks budget 1"
    assert headline(target(UNDECIDED, "INCONCLUSIVE")) == "int8 is not proved; undecided: budget 0"


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ((PASSED,), PASSED),
        ((PASSED, UNDECIDED), UNDECIDED),
        ((UNDECIDED, FAILED), FAILED),
        ((FAILED, PASSED), FAILED),
    ],
)
def test_a_failure_of_one_target_is_the_report_s(statuses: tuple[int, ...], status: int) -> None:
    targets = [{"status": one} for one in statuses]
    assert compose("recipe", TestSet(LABELS, CLASSES, {}), [], targets)["status"] == status
