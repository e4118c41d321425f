"""The report's numbers in rows and columns: the ladder from teacher to target, and recall by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Table = dict[str, Any]

MANY_CLASSES = 20  # more than these are folded away
WEAKEST = 10  # of many classes, those that are shown at once


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
    Column("Agreement", "%", lambda one: one.get("agreement", {}).get("same"), 100, 2),
    Column("Multiply-adds", "M", lambda one: one.get("macs"), 1e-6),
    Column("Parameters", "M", lambda one: one.get("parameters"), 1e-6),
    Column("File", "MB", lambda one: one.get("size_bytes"), 1e-6),
    Column("p50 latency", "ms", lambda one: one.get("latency_ms", {}).get("p50")),
    Column("p90 latency", "ms", lambda one: one.get("latency_ms", {}).get("p90")),
    Column("p99 latency", "ms", lambda one: one.get("latency_ms", {}).get("p99")),
    Column("Throughput", "images/s", lambda one: one.get("images_per_second")),
    Column("Peak memory", "MB", lambda one: one.get("memory_bytes"), 1e-6),
)
TILES = ("p50 latency", "p99 latency", "File")


def score(table: Table) -> Column:
    """The score of the table's task."""
    metric = table["metric"]
    return Column(metric.capitalize(), "%", lambda one: one.get(metric), 100, 2)


def ladder(table: Table) -> Table:
    """Teacher, student, then each target's candidates; a column that nobody fills is left out."""
    steps = [("", one["name"], one.get("network", ""), False) for one in table["networks"]]
    groups = [table["networks"]]  # each with as many decimals as it needs: targets may be far apart
    for target in table["targets"]:
        steps += [(target["target"], name, "", name == target["ship"]) for name in target["candidates"]]
        groups.append(target["candidates"].values())
    columns = (score(table), *COLUMNS)
    filled = {column: [found for group in groups for found in column.cells(group)] for column in columns}
    filled = {column: cells for column, cells in filled.items() if any(cells)}
    rows = [
        {"target": target, "name": name, "network": network, "chosen": chosen, "cells": cells}
        for (target, name, network, chosen), cells in zip(
            steps, zip(*filled.values(), strict=True), strict=True
        )
    ]
    return {"columns": list(filled), "rows": rows}


def tiles(table: Table, one: Table) -> list[tuple[Column, Cell]]:
    """What the page says of the chosen candidate in large type."""
    shown = [score(table), *(column for title in TILES for column in COLUMNS if column.title == title)]
    return [(column, found) for column in shown for found in column.cells([one]) if found]


def classes(table: Table) -> Table:
    """Recall of each class that has test images, by everyone who answered; each one's lowest is marked."""
    if "class_images" not in table:
        return {"names": []}
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
