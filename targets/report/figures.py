"""figures: the report's pictures, each an inline SVG string. Equal tables give equal bytes.

A target has one colour and a candidate one marker in every picture; the filled one is chosen to ship. Ink and
paper are left to the page's style, so that the pictures follow its light and dark mode.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:  # matplotlib takes half a second to import: only a run that draws pays for it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = dict[str, Any]

# Stand-ins, replaced in the finished SVG by what the page's style says.
INK, PAPER = "#010203", "#fdfcfb"
# Okabe & Ito's colours that can be told apart by everyone, without those that vanish on white or on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999933", "#808080")
MARKERS = "soD^vP*X"
STYLE: Any = {  # matplotlib would have each key as a literal
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.h_pad": 0.09,
    "figure.facecolor": "none",
    "font.family": [
        "DejaVu Sans"
    ],  # what lengths are reckoned with; the page's style names the one that is seen
    "font.size": 9,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar sign
    "xtick.color": INK,
    "ytick.color": INK,
}
HALF, FULL = 5.4, 10.8  # inches
WIDE = 10  # a span of more than this many times is drawn on a logarithmic axis
BINS = 90


class Rung(NamedTuple):
    """One answerer of the test images: a network in the workshop, or a candidate on a target."""

    label: str
    colour: str
    marker: str
    chosen: bool
    found: Table


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure in this style alone, whatever the user has set for figures of their own."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield Figure(figsize=(width, height), layout="constrained")


def svg(figure: Figure, name: str, says: str) -> str:
    """The figure as an element of a page; ``name`` keeps its ids apart from the page's other figures'."""
    import matplotlib

    out = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(out, format="svg", metadata=nothing)
    text = out.getvalue()[out.getvalue().index("<svg") :]
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the ids of groups would repeat in the page
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = text.replace(f": {INK}", ": currentColor").replace(f": {PAPER}", ": var(--card)")
    return text.replace("<svg", f'<svg role="img" aria-label="{says}"', 1)


def short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def markers(table: Table) -> dict[str, str]:
    """A marker for each candidate's name, the same on every target."""
    names = dict.fromkeys(name for target in table["targets"] for name in target["candidates"])
    return {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(names)}


def colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def rungs(table: Table) -> list[Rung]:
    """The ladder, from the top: networks, then each target's candidates."""
    shapes = markers(table)
    found = [Rung(short(one["name"]), INK, "|", False, one) for one in table["networks"]]
    for number, target in enumerate(table["targets"]):
        for name, one in target["candidates"].items():
            label = f"{short(target['target'], 16)} · {short(name, 16)}"
            found.append(Rung(label, colour(number), shapes[name], name == target["ship"], one))
    return found


def reach(found: Table, scale: float = 1.0) -> tuple[list[list[float]], float]:
    """An interval as the error bar that matplotlib takes, and its value; no bar for an endless interval."""
    value, low, high = (scale * found[name] for name in ("value", "low", "high"))
    bar = [[value - low], [high - value]] if math.isfinite(high) else [[0.0], [0.0]]
    return bar, value


def face(chosen: bool, own: str) -> str:
    return own if chosen else PAPER


def score_limits(found: list[Table]) -> tuple[float, float]:
    low, high = 100 * min(one["low"] for one in found), 100 * max(one["high"] for one in found)
    room = 0.06 * max(high - low, 0.5)
    return max(0.0, low - room) if low > 0 else -room, high + room


def tall(steps: list[Rung]) -> float:
    return max(3.2, 0.9 + 0.32 * len(steps))


def ladder(table: Table) -> str:
    """The score with its interval at each step from the teacher to what runs on the targets."""
    steps = rungs(table)
    with drawing(HALF, tall(steps)) as figure:
        axes = figure.subplots()
        for y, step in enumerate(steps):
            bar, value = reach(step.found[table["metric"]], 100)
            axes.errorbar(
                value,
                y,
                xerr=bar,
                fmt=step.marker,
                color=step.colour,
                mfc=face(step.chosen, step.colour),
                ms=10 if step.marker == "|" else 7,
                mew=1.6,
                elinewidth=1.6,
            )
            across = axes.get_yaxis_transform()
            axes.text(1.02, y, f"{value:.2f}", transform=across, va="center", weight=weight(step.chosen))
        axes.set_yticks(range(len(steps)), [step.label for step in steps])
        for label, step in zip(axes.get_yticklabels(), steps, strict=True):
            label.set_fontweight(weight(step.chosen))
        axes.set_ylim(len(steps) - 0.5, -0.5)
        axes.set_xlim(score_limits([step.found[table["metric"]] for step in steps]))
        axes.locator_params(axis="x", nbins=6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel(f"{table['metric']}, %")
        return svg(
            figure, "ladder", f"{table['metric'].capitalize()} with its interval at each step of the ladder"
        )


def weight(chosen: bool) -> str:
    return "bold" if chosen else "normal"


def tradeoff(table: Table) -> str:
    """The score against latency of every candidate of every target, with both intervals."""
    steps = [step for step in rungs(table) if "latency_ms" in step.found]
    with drawing(HALF, min(6.5, 0.6 + tall(steps))) as figure:
        axes = figure.subplots()
        for step in steps:
            across, x = reach(step.found["latency_ms"]["p50"])
            along, y = reach(step.found[table["metric"]], 100)
            filled = face(step.chosen, step.colour)
            axes.errorbar(x, y, along, across, step.marker, color=step.colour, mfc=filled, ms=8, mew=1.6)
        teacher = [one[table["metric"]] for one in table["networks"] if one["name"] == "teacher"]
        for one in teacher:
            axes.axhline(100 * one["value"], color=INK, alpha=0.6, lw=1, ls=(0, (5, 4)))
        span([step.found["latency_ms"]["p50"]["value"] for step in steps], axes)
        axes.set_ylim(score_limits([step.found[table["metric"]] for step in steps] + teacher))
        axes.grid()
        axes.set_xlabel("p50 latency, ms per call")
        axes.set_ylabel(f"{table['metric']}, %")
        figure.legend(handles=key(table, bool(teacher)), loc="outside lower center", ncols=4, fontsize=8)
        return svg(figure, "tradeoff", f"{table['metric'].capitalize()} against latency of each candidate")


def key(table: Table, teacher: bool) -> list[Any]:
    """What the trade-off's colours, markers and fillings mean."""
    from matplotlib.lines import Line2D

    def sign(label: str, **style: Any) -> Line2D:
        return Line2D(
            [], [], **{"color": INK, "ls": "", "mfc": PAPER, "ms": 7, "mew": 1.4, **style}, label=label
        )

    targets = [short(target["target"]) for target in table["targets"]]
    found = [sign(name, marker=shape) for name, shape in markers(table).items()]
    found.append(sign("filled: chosen", marker="o", mfc=INK))
    if teacher:
        found.append(sign("teacher", ls="--", lw=1))
    if len(targets) > 1:
        found += [sign(name, color=colour(i), ls="-", lw=4) for i, name in enumerate(targets)]
    return found


def span(values: list[float], axes: Axes) -> None:
    """A logarithmic axis with plain numbers where the values lie far apart."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if max(values) > WIDE * min(values):
        decades = math.log10(max(values) / min(values))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if decades > 3 else (1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def latencies(table: Table) -> str:
    """How the timed calls of each candidate spread, one panel a target."""
    targets = table["targets"]
    across = 1 if len(targets) == 1 else 2
    down = -(-len(targets) // across)
    most = max(len(target["candidates"]) for target in targets)
    with drawing(FULL, down * (0.8 + 0.95 * most)) as figure:
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for number, target in enumerate(targets):
            panel(panels[number], target, colour(number))
        for axes in panels[len(targets) :]:
            axes.remove()  # the last row's empty place
        return svg(figure, "latencies", "Distribution of the timed calls of each candidate")


def panel(axes: Axes, target: Table, own: str) -> None:
    candidates = target["candidates"]
    times = [np.asarray(one["times_ms"]) for one in candidates.values()]
    edges = bins(times, [one["latency_ms"]["p99"] for one in candidates.values()])
    span([float(edges[0]), float(edges[-1])], axes)
    for row, (mine, (name, one)) in enumerate(zip(times, candidates.items(), strict=True)):
        counts, _ = np.histogram(mine, edges)
        heights = 0.65 * counts / max(1, counts.max())
        alpha = 0.75 if name == target["ship"] else 0.3
        axes.stairs(-heights + row, edges, baseline=row, fill=True, color=own, alpha=alpha, lw=0)
        axes.plot(edges[[0, -1]], [row, row], color=INK, lw=0.6)
        for quantile, height, dash in (("p50", 0.76, "-"), ("p99", 0.42, "--")):
            bar, value = reach(one["latency_ms"][quantile])
            axes.plot([value, value], [row, row - height], color=INK, lw=1.1, ls=dash)
            axes.errorbar(value, row - height, xerr=bar, color=INK, lw=1.1, capsize=2)
            said = f"{quantile} {value:.3g}" if value < 1000 else f"{quantile} {value:,.0f}"
            axes.annotate(said, (value, row - height), (4, 4), textcoords="offset points", fontsize=8)
    axes.set_yticks(range(len(candidates)), [short(name, 16) for name in candidates])
    for label, name in zip(axes.get_yticklabels(), candidates, strict=True):
        label.set_fontweight(weight(name == target["ship"]))
    axes.set_ylim(len(candidates) - 0.85, -1.05)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_title(short(target["target"], 40), color=own, fontweight="bold")
    axes.set_xlabel("ms per call")


def bins(times: list[Any], tails: list[Table]) -> Any:
    """Edges that hold every p99 and what lies below it; the rarest slow calls would squeeze the rest."""
    low = min(float(mine.min()) for mine in times)
    ends = [tail["high"] if math.isfinite(tail["high"]) else tail["value"] for tail in tails]
    high = 1.15 * max(*ends, *(float(np.quantile(mine, 0.99)) for mine in times))
    return (np.geomspace if high > WIDE * low else np.linspace)(0.97 * low, high, BINS)
