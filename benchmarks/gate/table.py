"""The table and the picture of the gate's error rates."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from benchmarks.evidence import rows_of, told
from benchmarks.gate.traces import BUDGET

Table = dict[str, Any]
COLOURS = ("#111111", "#3b6ea8", "#2f8f5b", "#b4622d", "#8a4fa3")


def per_cent(share: float) -> str:
    return f"{100 * share:.1f} %"


def markdown(table: Table) -> list[str]:
    lines = [
        "# The gate's error rates",
        "",
        f"{table['model']} ({table['size']} px) by ONNX Runtime, batch 1, one thread, against itself with work"
        f" planted; promised: wrong at most {per_cent(table['error'])} at any true slowdown.",
        "",
    ]
    for name, found in table["conditions"].items():
        lines += [*replayed(name, found, table["replays"]), *tried(found), *ruled(found)]
    recorded = "What was recorded: gate-traces.jsonl, a line a process; gate.json holds the rest."
    return [*lines, *simulated(table), recorded, "", *told(table["run"])]


def replayed(name: str, found: Table, count: int) -> Iterator[str]:
    yield f"## {name[0].upper()}{name[1:]}"
    yield ""
    yield (
        f"A trace of {found['processes']} processes, {found['recorded'][0]} to {found['recorded'][1]} (load average"
        f" {found['load']:.1f}, the file takes {found['p50_ms']:.3f} ms); two sessions of one file differ by"
        f" {found['spread']:.2%} a process. {count} replays a line, by blocks, over the five variants, the limit set"
        f" so far from each one's truth:"
    )
    yield ""
    head = ("truth − limit, points", "PASS", "FAIL", "right in 20 s", "right in 60 s", "seconds, median")
    rows = []
    for gap, shares in found["away"].items():
        right = (per_cent(shares["right_20s"]), per_cent(shares["right_60s"]))
        if float(gap) == 0:
            right = ("–", "–")
        rows.append(
            (
                f"{float(gap):+g}",
                per_cent(shares["PASS"]),
                per_cent(shares["FAIL"]),
                *right,
                f"{shares['seconds']:.0f}",
            )
        )
    yield from rows_of(head, rows)
    yield ""
    yield f"The 99th percentile with the limit at its truth: {per_cent(found['tail_decided'])} decided, each wrongly."
    yield ""


def tried(condition: Table) -> Iterator[str]:
    """Live trials, by how much slower the variant truly is."""
    rows = condition["live"]
    if not rows:
        return
    head = (
        "true slowdown",
        "found, median",
        "trials",
        "PASS",
        "FAIL",
        "INCONCLUSIVE",
        "seconds: median, most",
    )
    cells = []
    for slower in sorted({row["slower"] for row in rows}):
        mine = [row for row in rows if row["slower"] == slower]
        seconds = sorted(row["seconds"] for row in mine)
        values = sorted(row["found"]["value"] for row in mine)
        outcomes = [row["outcome"] for row in mine]
        cells.append(
            (
                f"{condition['truth'][str(slower)]:.1f} %",
                f"{values[len(values) // 2]:.1f} %",
                str(len(mine)),
                *(str(outcomes.count(word)) for word in ("PASS", "FAIL", "INCONCLUSIVE")),
                f"{seconds[len(seconds) // 2]:.0f}, {seconds[-1]:.0f}",
            )
        )
    yield f"Live, the whole of `retort gate` with `slower_than_baseline={BUDGET:g}%`, fresh each time:"
    yield ""
    yield from rows_of(head, cells)
    yield ""


def ruled(found: Table) -> Iterator[str]:
    """FAIL rates of all rules at the same budget."""
    rules = list(next(iter(found["curve"].values())))
    head = ("true slowdown", *(f"{rule}: PASS / FAIL" for rule in rules))
    cells = [
        (
            f"{found['truth'][slower]:.1f} %",
            *(f"{per_cent(said[rule]['PASS'])} / {per_cent(said[rule]['FAIL'])}" for rule in rules),
        )
        for slower, said in found["curve"].items()
    ]
    yield f"At a budget of {BUDGET:g} %, on the same rows; what a rule says neither of, it left open:"
    yield ""
    yield from rows_of(head, cells)
    yield ""


def simulated(table: Table) -> Iterator[str]:
    yield "## Accuracy, simulated"
    yield ""
    yield (
        f"`drop_vs_baseline={100 * table['accuracy_limit']:g}`: 95 % intervals, so a wrong PASS or FAIL in at most"
        " 2.5 %; beside it the rule that passes a drop seen below the limit."
    )
    yield ""
    head = ("images", "differ", "true drop", "PASS", "FAIL", "plain rule: PASS")
    yield from rows_of(
        head,
        [
            (
                f"{row['images']:,}",
                per_cent(row["flips"]),
                f"{100 * row['drop']:g}",
                *(per_cent(row[key]) for key in ("PASS", "FAIL", "plain PASS")),
            )
            for row in table["accuracy"]
        ],
    )
    yield ""
    yield (
        f"`worst_class={100 * table['recall_limit']:g}`: every class at the limit (a FAIL is wrong), or one of them"
        " five points below it (a PASS is wrong); the plain rule looks at the lowest recall seen."
    )
    yield ""
    head = ("classes", "images of each", "one below by", "PASS", "FAIL", "plain rule: PASS")
    yield from rows_of(
        head,
        [
            (
                f"{row['classes']:,}",
                str(row["images"]),
                f"{100 * row['below']:g}",
                *(per_cent(row[key]) for key in ("PASS", "FAIL", "plain PASS")),
            )
            for row in table["classes"]
        ],
    )
    yield ""


def plot(table: Table) -> str:
    """How often each rule fails a change, by how much slower it truly is; a panel a condition; SVG."""
    from matplotlib.figure import Figure

    found = table["conditions"]
    figure = Figure(figsize=(3.4 * max(1, len(found)), 3.2), layout="constrained")
    axes = figure.subplots(1, max(1, len(found)), sharey=True, squeeze=False)[0]
    for one, (name, condition) in zip(axes, found.items(), strict=True):
        truths = [condition["truth"][slower] for slower in condition["curve"]]
        rules = list(next(iter(condition["curve"].values())))
        for rule, colour in zip(rules, COLOURS, strict=True):
            fails = [100 * said[rule]["FAIL"] for said in condition["curve"].values()]
            width = 2.2 if rule == rules[0] else 1.1
            one.plot(truths, fails, marker="o", markersize=3, color=colour, linewidth=width, label=rule)
        one.axvline(BUDGET, color="#888888", linewidth=0.8, linestyle=":")
        one.set_title(name, fontsize=9)
        one.set_xlabel("true slowdown, %")
        one.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("says FAIL, %")
    axes[0].legend(fontsize=7, frameon=False, loc="upper left")
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
