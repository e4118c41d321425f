"""render: the report's table as a page (report.html), as Markdown (summary.md) and for CI (junit.xml)."""

from __future__ import annotations

import html as markup
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from targets.report import figures, strips
from targets.report.columns import Cell, cell, classes, decimals, ladder, tiles
from targets.report.making import cuts, exports, trainings
from targets.report.terminal import WORDS, amount, headline, in_float

Table = dict[str, Any]
JOINER = "\u2060"  # has no width

# What XML cannot hold and UTF-8 cannot write: control characters and halves of surrogate pairs.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(value: Any) -> Any:
    """The table with every name fit to be written; a class is called what its folder is called."""
    if isinstance(value, str):
        return UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {printable(name): printable(one) for name, one in value.items()}
    return [printable(one) for one in value] if isinstance(value, (list, tuple)) else value


def budget_cells(line: Table) -> Table:
    """A budget line's limit and value, with the figures it takes to see on which side the interval lies."""
    limit, found = line["limit"], line["estimate"]
    sign = {"at_least": "≥", "at_most": "≤"}[line["direction"]]
    shown: Table = {**line, "limit": f"{sign} {limit:,g}", "found": None}
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
    """Text that GitHub's Markdown shows as it is, also within a table; an @ calls nobody."""
    text = " ".join(markup.escape(str(value), quote=False).split()).replace("@", f"@{JOINER}")
    return Markup(re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", text))


def weakest(table: Table, target: Table) -> str:
    """The class that the shipped file recognises worst, and how often."""
    recalls = target["candidates"][target["ship"]]["recall"]
    names = [name for name, images in zip(table["classes"], table["class_images"], strict=True) if images]
    worst = min(range(len(names)), key=lambda number: recalls[number]["value"])
    return f"{names[worst]}: {inline(cell(recalls[worst], 2, 100))} %"


def page(template: str, **more: Any) -> str:
    """A filled template. Everything that is put in is escaped."""
    templates = FileSystemLoader(Path(__file__).with_name("templates"))
    environment = Environment(
        autoescape=True, loader=templates, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["share"] = lambda found: cell(found, 2, 100)
    environment.filters["measured"] = lambda found: inline(cell(found, 3))
    texts = (amount, headline, in_float, inline, markdown, pretty, strips.strip, weakest)
    making = (cuts, exports, trainings)
    for shown in (*making, budget_cells, flat, operators, speedup, tiles, vendors, *texts):
        environment.filters[shown.__name__] = shown
    return environment.get_template(template).render(words=WORDS, **more)


def has(target: Table, key: str) -> bool:
    return any(key in one for one in target["candidates"].values())


def html(table: Table) -> str:
    """The whole report as one file that asks the network for nothing."""
    table = printable(table)
    # There are pictures of what was measured.
    measured = {**table, "targets": [target for target in table["targets"] if target["candidates"]]}
    timed = {**table, "targets": [one for one in table["targets"] if has(one, "latency_ms")]}
    drawn = {"ladder": Markup(figures.ladder(measured))} if measured["targets"] else {}
    if timed["targets"]:
        drawn["tradeoff"] = Markup(figures.tradeoff(timed))
    calls = {**table, "targets": [one for one in table["targets"] if has(one, "times_ms")]}
    if calls["targets"]:
        drawn["latencies"] = Markup(figures.latencies(calls))
    if any(target["throttling"] for target in measured["targets"]):
        drawn["throttling"] = Markup(strips.throttling(measured))
    return page("report.html.j2", table=table, ladder=ladder(table), classes=classes(measured), figures=drawn)


def summary(table: Table) -> str:
    """What a pull request or a job's page wants to know, in GitHub's Markdown."""
    table = printable(table)
    return page("summary.md.j2", table=table, ladder=ladder(table))


def model_card(table: Table, target: Table) -> str:
    """What whoever gets one target's files must know of them, in Markdown."""
    return page("model-card.md.j2", table=printable(table), target=printable(target))


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
