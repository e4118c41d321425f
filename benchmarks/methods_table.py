"""The table and the picture of compared methods: means over seeds, and differences seed by seed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.evidence import rows_of, told
from pipeline.losses import LOSSES
from targets.stats.intervals import student_half

ALONE, KD = "student alone", "kd"
Scores = dict[int, float]  # by seed, in points


def by_method(table: dict[str, Any]) -> dict[str, Scores]:
    found: dict[str, Scores] = {}
    for row in table["rows"]:
        if "accuracy" in row:
            found.setdefault(row["method"], {})[row["seed"]] = 100 * row["accuracy"]
    return found


def difference(ours: Scores, theirs: Scores) -> tuple[float, float, float] | None:
    """The mean of the paired differences with Student's 95 % interval; None with fewer than two seeds."""
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) < 2:
        return None
    pairs = np.array([ours[seed] - theirs[seed] for seed in seeds])
    half = student_half(float(pairs.std(ddof=1)), len(pairs))
    return float(pairs.mean()), float(pairs.mean()) - half, float(pairs.mean()) + half


def said(found: tuple[float, float, float] | None) -> tuple[str, str]:
    if found is None:
        return "–", ""
    mean, low, high = found
    word = "better" if low > 0 else "worse" if high < 0 else "no power to decide"
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]", word


def markdown(table: dict[str, Any]) -> list[str]:
    protocol, found = table["protocol"], by_method(table)
    order = sorted(found, key=lambda name: -float(np.mean(list(found[name].values()))))
    head = (
        "method",
        "kind",
        "n",
        "accuracy %",
        "sd",
        "against the student alone",
        "",
        "against kd",
        "",
        "s a run",
    )
    failures = [row for row in table["rows"] if "error" in row]
    return [
        "# Distillation methods compared",
        "",
        f"{protocol['teacher']} ({table['teacher']['accuracy']:.1%}) → {protocol['student']}; CIFAR-100,"
        f" {protocol['classes']} classes, {protocol['images']} training images of each for the student;"
        f" {protocol['epochs']} epochs, batch {protocol['batch']}, lr {protocol['lr']}, {protocol['schedule']}."
        " The last epoch on the test split; defaults of the catalogue; nothing was chosen by these figures.",
        "",
        f"Each is its loss beside the labels' cross-entropy at 1, but for {exceptions(table['used'])}.",
        "",
        *rows_of(head, [line(name, found, table) for name in order]),
        "",
        "Intervals: 95 %, Student's, over seeds, of differences between runs of one seed (the same first weights,"
        " images and crops). They are not corrected for the number of methods: of forty that do nothing, two"
        " would seem to do something.",
        *power(found),
        "",
        *(f"Failed: {row['method']}, seed {row['seed']}: {row['error']}" for row in failures),
        *([""] if failures else []),
        trained(table["rows"]),
        *told(table["run"]),
    ]


def power(found: dict[str, Scores]) -> list[str]:
    """What a difference must have for the table to see it."""
    gaps = [difference(found[name], found.get(ALONE, {})) for name in found if name != ALONE]
    halves = [(gap[2] - gap[1]) / 2 for gap in gaps if gap is not None]
    if not halves:
        return []
    told = f"Half an interval is {np.median(halves):.2f} points in the median"
    return [f"{told}: smaller differences are beyond this table's power."]


def trained(rows: Sequence[dict[str, Any]]) -> str:
    """When the rows were made: a table can be drawn of several commands' rows."""
    when = sorted(row["when"] for row in rows)
    return f"{len(rows)} rows, trained from {when[0]} to {when[-1]}; the last command:"


def exceptions(used: dict[str, Any]) -> str:
    """The methods that were used otherwise, so that nobody takes kd's merit for theirs."""
    told = []
    for name, how in used.items():
        more = [f"{one['name']} at {one['weight']:g}" for one in how["loss"] if one["name"] != name]
        labels = [f"cross-entropy at {how['label_weight']:g}"] if "label_weight" in how else []
        if name != ALONE:
            told.append(f"{name} ({', '.join(labels + more)})")
    return ", ".join(told)


def line(name: str, found: dict[str, Scores], table: dict[str, Any]) -> Sequence[str]:
    scores = list(found[name].values())
    seconds = [row["seconds"] for row in table["rows"] if row["method"] == name and "accuracy" in row]
    alone = said(difference(found[name], found.get(ALONE, {})) if name != ALONE else None)
    kd = said(difference(found[name], found.get(KD, {})) if name != KD else None)
    kind = LOSSES[name].kind if name in LOSSES else ""
    spread = f"{np.std(scores, ddof=1):.2f}" if len(scores) > 1 else "–"
    return (
        name,
        kind,
        str(len(scores)),
        f"{np.mean(scores):.2f}",
        spread,
        *alone,
        *kd,
        f"{np.mean(seconds):.0f}",
    )


def plot(table: dict[str, Any]) -> str:
    """Each method's difference from the student alone, with its interval, as SVG."""
    from matplotlib.figure import Figure

    found = by_method(table)
    gaps = {n: difference(found[n], found.get(ALONE, {})) for n in found if n != ALONE}
    known = sorted(((n, gap) for n, gap in gaps.items() if gap is not None), key=lambda pair: pair[1][0])
    figure = Figure(figsize=(7, 1.2 + 0.22 * len(known)), layout="constrained")
    axes = figure.add_subplot()
    colours = {"response": "#3b6ea8", "feature": "#2f8f5b", "relation": "#b4622d"}
    for place, (name, (mean, low, high)) in enumerate(known):
        colour = colours[LOSSES[name].kind]
        axes.plot([low, high], [place, place], color=colour, linewidth=1.5)
        axes.plot(mean, place, "o", color=colour, markersize=4)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(known)), [name for name, _ in known], fontsize=8)
    axes.set_xlabel("accuracy beyond the student alone, points, 95 % interval")
    for kind, colour in colours.items():
        axes.plot([], [], color=colour, label=kind)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
