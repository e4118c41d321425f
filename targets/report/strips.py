"""Small pictures: where a budget's interval lies beside its limit, and what a long spell of work did."""

from __future__ import annotations

import io
import math
from typing import Any

from targets.report.figures import FULL, INK, colour, drawing, svg

Table = dict[str, Any]
WIDTH = 31  # characters of a strip in text; the limit is in the middle
OUTCOMES = {"PASS": "#2e7d32", "FAIL": "#c62828", "INCONCLUSIVE": "#b07800"}


def places(line: Table) -> tuple[float, float, float] | None:
    """Low, value and high of a line as −1…1 with the limit at 0; None where there is no estimate."""
    found, limit = line["estimate"], line["limit"]
    if found is None:
        return None
    ends = [found[key] - limit for key in ("low", "value", "high")]
    reach = 1.1 * max((abs(end) for end in ends if math.isfinite(end)), default=0.0) or 1.0
    low, value, high = (min(1.0, max(-1.0, end / reach)) for end in ends)
    return low, value, high


def strip(line: Table) -> str:
    """The same in characters: ``   ├──●──┤    ¦               ``; nothing where there is no estimate."""
    found = places(line)
    if found is None:
        return ""
    low, value, high = (round((1 + place) / 2 * (WIDTH - 1)) for place in found)
    drawn = [" "] * WIDTH
    for column in range(low, high + 1):
        drawn[column] = "─"
    drawn[WIDTH // 2] = "┼" if low < WIDTH // 2 < high else "¦"
    drawn[low], drawn[high] = "├", "┤"
    drawn[value] = "●"
    return "".join(drawn)


def budgets(table: Table) -> str:
    """Every budget of every target as an interval beside its limit: a picture file for a pull request."""
    rows = [
        (target["target"], line, found)
        for target in table["targets"]
        for line in target["lines"]
        if (found := places(line)) is not None
    ]
    with drawing(6.4, 0.6 + 0.32 * max(1, len(rows))) as figure:
        axes = figure.subplots()
        axes.axvline(0, color="#777777", lw=1, ls="--")
        for row, (_, line, (low, value, high)) in enumerate(rows):
            tint = OUTCOMES.get(line["outcome"], "#777777")
            axes.plot([low, high], [row, row], color=tint, lw=3, solid_capstyle="butt")
            axes.plot(value, row, "o", color=tint, ms=6)
            axes.annotate(
                line["outcome"], (1.04, row), va="center", fontsize=8, color=tint, annotation_clip=False
            )
        axes.set_yticks(range(len(rows)), [f"{target} {line['budget']}" for target, line, _ in rows])
        axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
        axes.set_xlim(-1, 1)
        axes.set_xticks([0], ["limit"])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
        out = io.StringIO()
        figure.savefig(out, format="svg", facecolor="white", metadata={"Date": None})
        return out.getvalue()


def throttling(table: Table) -> str:
    """How the latency of each candidate went while the device worked without a pause."""
    hot = [target for target in table["targets"] if target["throttling"]]
    with drawing(FULL, 2.4 * len(hot)) as figure:
        for axes, target in zip(figure.subplots(len(hot), 1, squeeze=False).ravel(), hot, strict=True):
            curve = dict(target["throttling"]["curve"])
            minutes = [at / 60 for at in curve.pop("at")]
            for number, (name, times) in enumerate(curve.items()):
                axes.plot(minutes, times, color=colour(number), lw=1.3, label=name)
            axes.axhline(1, color=INK, lw=0.6)
            axes.set_title(target["target"])
            axes.set_xlabel("minutes of work without a pause")
            axes.set_ylabel("latency, times the first")
            axes.legend(frameon=False, fontsize=8)
        return svg(figure, "throttling", "Latency of each candidate while the device worked without a pause")
