"""render: the report's table as a page (report.html), as Markdown (summary.md) and for CI (junit.xml)."""

from __future__ import annotations

import html as markup
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from targets import figures, strips
from targets.terminal import WORDS, amount, headline

Table = dict[str, Any]

AT_LEAST = ("accuracy", "worst_class", "agreement_vs_baseline")  # every other budget is a limit from above
MEANINGS = {
    "accuracy": "share of the test images that are answered right",
    "drop_vs_teacher": "accuracy lost against the teacher",
    "drop_vs_float": "accuracy lost against the float candidate",
    "worst_class": "recall of the weakest class",
    "p50_ms": "half of the calls take at most this long",
    "p90_ms": "90 of 100 calls take at most this long",
    "p99_ms": "99 of 100 calls take at most this long",
    "p50_vs_reference": "latency in times the reference network's, medians",
    "p99_vs_reference": "latency in times the reference network's, 99 of 100 calls",
    "slower_than_baseline": "latency beyond the baseline's, timed in the same rounds",
    "drop_vs_baseline": "accuracy lost against the baseline",
    "agreement_vs_baseline": "share of the test images that are answered as the baseline does",
    "size_mb": "size of the file",
    "memory_mb": "peak memory of the process that runs it",
}
MANY_CLASSES = 20  # more than these are folded away
WEAKEST = 10  # of many classes, those that are shown at once
# What XML cannot hold and UTF-8 cannot write: control characters and halves of surrogate pairs.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(value: Any) -> Any:
    """The table with every name fit to be written; a class is called what its folder is called."""
    if isinstance(value, str):
        return UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {printable(name): printable(one) for name, one in value.items()}
    return [printable(one) for one in value] if isinstance(value, (list, tuple)) else value


def number(value: float, decimals: int) -> str:
    return "∞" if math.isinf(value) else f"{value:,.{decimals}f}"


def decimals(value: float) -> int:
    """How many show three figures that count, four at most."""
    return 4 if value == 0 else min(4, max(0, 2 - math.floor(math.log10(abs(value)))))


@dataclass(frozen=True)
class Cell:
    """A number as it is read: its text and, where it was estimated, its interval's."""

    text: str
    interval: str = ""
    worst: bool = False


def cell(found: float | Table, places: int, scale: float = 1.0, worst: bool = False) -> Cell:
    if not isinstance(found, dict):
        return Cell(number(scale * found, places))
    value, low, high = (number(scale * found[name], places) for name in ("value", "low", "high"))
    return Cell(value, "" if found["low"] == found["high"] else f"[{low}, {high}]", worst)


@dataclass(frozen=True)
class Column:
    """A number that networks and candidates have; ``places`` None: as many as its smallest value needs."""

    title: str
    unit: str
    find: Callable[[Table], Any]
    scale: float = 1.0
    places: int | None = None

    def cells(self, answerers: Iterable[Table]) -> list[Cell | None]:
        """None where one has no such number."""
        found = [self.find(one) for one in answerers]
        values = [one["value"] if isinstance(one, dict) else one for one in found if one is not None]
        places = self.places
        if places is None:
            places = decimals(min(values, default=0.0) * self.scale)
        return [None if one is None else cell(one, places, self.scale) for one in found]


COLUMNS = (
    Column("Accuracy", "%", lambda one: one.get("accuracy"), 100, 2),
    Column("Multiply-adds", "M", lambda one: one.get("macs"), 1e-6),
    Column("Parameters", "M", lambda one: one.get("parameters"), 1e-6),
    Column("File", "MB", lambda one: one.get("size_bytes"), 1e-6),
    Column("p50 latency", "ms", lambda one: one.get("latency_ms", {}).get("p50")),
    Column("p90 latency", "ms", lambda one: one.get("latency_ms", {}).get("p90")),
    Column("p99 latency", "ms", lambda one: one.get("latency_ms", {}).get("p99")),
    Column("Throughput", "images/s", lambda one: one.get("images_per_second")),
    Column("Peak memory", "MB", lambda one: one.get("memory_bytes"), 1e-6),
)
TILES = ("Accuracy", "p50 latency", "p99 latency", "File")


def ladder(table: Table) -> Table:
    """Teacher, student, then each target's candidates; a column that nobody fills is left out."""
    steps = [("", one["name"], one.get("network", ""), False) for one in table["networks"]]
    groups = [table["networks"]]  # each with as many decimals as it needs: targets may be far apart
    for target in table["targets"]:
        steps += [(target["target"], name, "", name == target["ship"]) for name in target["candidates"]]
        groups.append(target["candidates"].values())
    filled = {column: [found for group in groups for found in column.cells(group)] for column in COLUMNS}
    filled = {column: cells for column, cells in filled.items() if any(cells)}
    rows = [
        {"target": target, "name": name, "network": network, "chosen": chosen, "cells": cells}
        for (target, name, network, chosen), cells in zip(
            steps, zip(*filled.values(), strict=True), strict=True
        )
    ]
    return {"columns": list(filled), "rows": rows}


def budget_cells(line: Table) -> Table:
    """A budget line's limit and value, with the figures it takes to see on which side the interval lies."""
    limit, found = line["limit"], line["estimate"]
    sign = "≥" if line["budget"] in AT_LEAST else "≤"
    shown: Table = {
        **line,
        "limit": f"{sign} {limit:,g}",
        "meaning": MEANINGS.get(line["budget"], ""),
        "found": None,
    }
    if found is None:
        return shown
    ends = [end for end in found.values() if math.isfinite(end)]
    places = decimals(max(map(abs, ends)))
    while places < 9 and any(side(round(end, places), limit) != side(end, limit) for end in ends):
        places += 1
    return {**shown, "found": cell(found, places)}


def side(value: float, limit: float) -> int:
    return (value > limit) - (value < limit)


def speedup(target: Table) -> Cell | None:
    """How many times as fast as float: the other way round than the ratio of latencies in the table."""
    ratio = target["speed_vs_float"]
    if ratio is None:
        return None
    low = 1 / ratio["low"] if ratio["low"] else math.inf
    return cell({"value": 1 / ratio["value"], "low": 1 / ratio["high"], "high": low}, 2)


def tiles(one: Table) -> list[tuple[Column, Cell]]:
    """What the page says of the chosen candidate in large type."""
    shown = [column for title in TILES for column in COLUMNS if column.title == title]
    return [(column, found) for column in shown for found in column.cells([one]) if found]


def classes(table: Table) -> Table:
    """Recall of each class that has test images, by everyone who answered; each one's lowest is marked."""
    present = [(name, n) for name, n in zip(table["classes"], table["class_images"], strict=True) if n]
    groups = [("", len(table["networks"]))] if table["networks"] else []
    groups += [(target["target"], len(target["candidates"])) for target in table["targets"]]
    answerers = [(one["name"], one["recall"]) for one in table["networks"]]
    for target in table["targets"]:
        answerers += [(name, one["recall"]) for name, one in target["candidates"].items()]
    if not answerers:
        return {"names": []}
    lowest = [min(one["value"] for one in recall) for _, recall in answerers]
    rows = []
    for i, (name, images) in enumerate(present):
        found = [recall[i] for _, recall in answerers]
        cells = [
            cell(one, 1, 100, worst=one["value"] == low < 1) for one, low in zip(found, lowest, strict=True)
        ]
        rows.append(
            {"name": name, "images": images, "cells": cells, "lowest": min(one["value"] for one in found)}
        )
    weakest = sorted(rows, key=lambda row: row["lowest"])[:WEAKEST] if len(rows) > MANY_CLASSES else []
    return {"groups": groups, "names": [name for name, _ in answerers], "rows": rows, "weakest": weakest}


def operators(target: Table) -> list[tuple[str, list[int | None]]]:
    """How often each candidate runs each operator, the commonest first."""
    counts = [one["facts"].get("operators", {}) for one in target["candidates"].values()]
    totals = {name: sum(count.get(name, 0) for count in counts) for count in counts for name in count}
    ordered = sorted(totals, key=lambda name: (-totals[name], name))
    return [(name, [count.get(name) for count in counts]) for name in ordered]


def vendors(target: Table) -> list[Table]:
    """What the vendor's own tool timed, a row a candidate."""
    told = {
        name: one["facts"]["vendor"] for name, one in target["candidates"].items() if "vendor" in one["facts"]
    }
    columns = ("p50_ms", "p99_ms", "gpu_p50_ms", "gpu_p99_ms", "calls")
    cells = {name: [f"{row[c]:,.4g}" if c in row else "–" for c in columns] for name, row in told.items()}
    return [{"name": name, **row, "cells": cells[name]} for name, row in told.items()]


def flat(settings: Table, before: str = "") -> Iterable[tuple[str, str]]:
    """Nested settings as lines of name and text."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{name} ")
        elif isinstance(value, list):
            yield before + name, ", ".join(map(str, value))
        else:
            yield before + name, f"{value:.4g}" if isinstance(value, float) else str(value)


def pretty(settings: Table) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False)


def inline(found: Cell | None) -> str:
    return "–" if found is None else f"{found.text} {found.interval}".strip()


def markdown(value: object) -> Markup:
    """Text that GitHub's Markdown shows as it is, also within a table."""
    text = " ".join(markup.escape(str(value), quote=False).split())
    return Markup(re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", text))


def page(template: str, **more: Any) -> str:
    """A filled template. Everything that is put in is escaped."""
    templates = FileSystemLoader(Path(__file__).with_name("templates"))
    environment = Environment(
        autoescape=True, loader=templates, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    texts = (headline, inline, markdown, pretty, strips.strip)
    for shown in (budget_cells, flat, operators, speedup, tiles, vendors, *texts):
        environment.filters[shown.__name__] = shown
    return environment.get_template(template).render(words=WORDS, **more)


def html(table: Table) -> str:
    """The whole report as one file that asks the network for nothing."""
    table = printable(table)
    # There are pictures of what was measured.
    measured = {**table, "targets": [target for target in table["targets"] if target["candidates"]]}
    names = ("ladder", "tradeoff", "latencies") if measured["targets"] else ()
    drawn = {name: Markup(getattr(figures, name)(measured)) for name in names}
    if any(target["heat"] for target in measured["targets"]):
        drawn["heat"] = Markup(strips.heat(measured))
    return page("report.html.j2", table=table, ladder=ladder(table), classes=classes(measured), figures=drawn)


def summary(table: Table) -> str:
    """What a pull request or a job's page wants to know, in GitHub's Markdown."""
    table = printable(table)
    return page("summary.md.j2", table=table, ladder=ladder(table))


def junit(table: Table) -> str:
    """A test suite a target, a test case a budget.

    What could not be decided is an error, so that a pipeline is green only when everything is proved.
    """
    table = printable(table)
    root = ElementTree.Element("testsuites", name=f"retort {table['recipe']}")
    for target in table["targets"]:
        outcomes = [line["outcome"] for line in target["lines"]]
        fails = outcomes.count("FAIL")
        counts = {
            "tests": len(outcomes),
            "failures": fails,
            "errors": len(outcomes) - fails - outcomes.count("PASS"),
        }
        suite = ElementTree.SubElement(root, "testsuite", name=target["target"], timestamp=table["made"])
        suite.attrib.update({name: str(count) for name, count in counts.items()})
        for line in target["lines"]:
            place = f"{target['target']}.{target['ship']}"
            case = ElementTree.SubElement(suite, "testcase", name=line["budget"], classname=place)
            said = f"{line['outcome']}: {amount(line)}"
            if line["outcome"] == "PASS":
                ElementTree.SubElement(case, "system-out").text = said
            else:
                kind = "failure" if line["outcome"] == "FAIL" else "error"
                ElementTree.SubElement(case, kind, message=said, type=line["outcome"])
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
