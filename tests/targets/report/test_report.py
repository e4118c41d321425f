"""The report's files: what they say is what the table says, whatever the names in it are."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from support.report_table import build
from targets.limits import Budgets
from targets.report import figures, render
from targets.report.table import write_report
from targets.report.terminal import tell

HOSTILE = ["<script>alert(1)</script>", "a'b & c", "pipe | `tick` *star* [x](y)", "bell\x07 \udcff", "猫 🐈"]


class Page(HTMLParser):
    """The tags and the visible text of a page, and that each tag is closed."""

    VOID = ("meta", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def tables() -> dict[str, dict[str, Any]]:
    few = Budgets(drop_vs_teacher=1, memory_mb=50, size_mb=5)  # for an ONNX file alone, as the gate has it
    undecided = Budgets(accuracy=94, drop_vs_float=1.5, p99_ms=0.001, memory_mb=50)
    return {
        "usual": build(),
        "hostile": build(classes=6, names=HOSTILE),
        "bare": build(classes=2, candidates=("model",), teacher=False, memory=None, budgets=few),
        "mixed": build(targets=3, budgets=undecided, memory=None),
        "unbudgeted": build(classes=2, budgets=Budgets()),
        "eight targets": build(targets=8, candidates=("float", "int8", "int8 narrow")),
    }


TABLES = tables()
every_table = pytest.mark.parametrize("name", TABLES)


@cache
def drawn(name: str) -> str:
    return render.html(TABLES[name])


@every_table
def test_every_budget_line_is_in_every_file(name: str) -> None:
    table = TABLES[name]
    page, text = Page(drawn(name)), render.summary(table)
    for target in table["targets"]:
        assert f"Verdict on {target['target']}" in page.text
        for line in target["lines"]:
            assert re.search(rf"{line['budget']} [\w ]+ {line['outcome']} [≥≤] {line['limit']:g} ", page.text)
            assert f"| `{line['budget']}` | **{line['outcome']}** |" in text


@every_table
def test_junit_counts_what_it_holds(name: str) -> None:
    table = TABLES[name]
    suites = ElementTree.fromstring(render.junit(table)).findall("testsuite")
    assert [suite.get("name") for suite in suites] == [target["target"] for target in table["targets"]]
    for suite, target in zip(suites, table["targets"], strict=True):
        outcomes = [line["outcome"] for line in target["lines"]]
        assert [case.get("name") for case in suite] == [line["budget"] for line in target["lines"]]
        assert suite.get("tests") == str(len(outcomes))
        assert suite.get("failures") == str(outcomes.count("FAIL")) == str(len(suite.findall("*/failure")))
        undecided = outcomes.count("INCONCLUSIVE") + outcomes.count("NOT MEASURED")
        assert suite.get("errors") == str(undecided) == str(len(suite.findall("*/error")))
        assert all(case[0].get("message") or case[0].tag == "system-out" for case in suite)


def test_the_tables_hold_every_outcome() -> None:
    targets = [target for table in TABLES.values() for target in table["targets"]]
    found = {line["outcome"] for target in targets for line in target["lines"]}
    assert found == {"PASS", "FAIL", "INCONCLUSIVE", "NOT MEASURED"}
    assert {table["status"] for table in TABLES.values()} == {0, 1, 3}


@every_table
def test_the_page_is_whole_and_asks_the_network_for_nothing(name: str) -> None:
    html = drawn(name)
    page = Page(html)
    assert "script" not in page.tags and "link" not in page.tags and "img" not in page.tags
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r"https?://[^\"'\s<]+", re.sub(r'xmlns(:xlink)?="[^"]*"', "", html))) == set()
    assert not re.search(r"url\((?!#)|@import|(?:src|href)=\"(?!#)", html)
    assert page.tags.count("svg") == 3


@pytest.mark.parametrize("name", ["mixed", "bare"])
def test_equal_tables_give_equal_files(name: str) -> None:
    again = json.loads(json.dumps(TABLES[name]))
    assert render.html(again) == drawn(name)
    assert render.summary(again) == render.summary(TABLES[name])
    assert render.junit(again) == render.junit(TABLES[name])


def test_hostile_names_are_text() -> None:
    page = Page(drawn("hostile"))
    assert "<script" not in drawn("hostile") + render.summary(TABLES["hostile"])
    assert all(name.replace("\x07", "\ufffd").replace("\udcff", "\ufffd") in page.text for name in HOSTILE)
    shown = render.markdown(f"{HOSTILE[2]}\n{HOSTILE[0]}")
    assert shown == r"pipe \| \`tick\` \*star\* \[x\](y) &lt;script&gt;alert(1)&lt;/script&gt;"


def test_every_cell_of_the_classes_is_there_and_the_lowest_is_marked() -> None:
    table = build(targets=2, classes=7, images=200)
    found = render.classes(table)
    assert [name for name, _ in found["groups"]] == ["", "board 0", "board 1"]
    assert len(found["rows"]) == 7 and not found["weakest"]
    answerers = [
        *table["networks"],
        *(one for each in table["targets"] for one in each["candidates"].values()),
    ]
    for column in range(len(found["names"])):
        cells = [row["cells"][column] for row in found["rows"]]
        recall = answerers[column]["recall"]
        assert [cell.text for cell in cells] == [f"{100 * one['value']:.1f}" for one in recall]
        lowest = min(one["value"] for one in recall)
        assert [cell.worst for cell in cells] == [one["value"] == lowest for one in recall]


def test_a_class_without_images_does_not_shift_the_others() -> None:
    table = build(classes=3, images=100)
    table["classes"].insert(1, "empty")
    table["class_images"].insert(1, 0)
    assert [row["name"] for row in render.classes(table)["rows"]] == ["kind 0", "kind 1", "kind 2"]


def test_many_classes_are_folded_away() -> None:
    table = build(classes=1000, images=4000, names=["a" * 300])
    found = render.classes(table)
    assert len(found["weakest"]) == 10
    text = Page(render.html(table)).text
    assert f"All {len(found['rows'])} classes" in text.replace(",", "") and "a" * 300 in text


def test_a_bare_file_needs_neither_teacher_nor_memory() -> None:
    page = Page(drawn("bare"))
    assert "NOT DECIDED model is not proved; undecided: drop_vs_teacher, memory_mb" in page.text
    assert "How it was made" not in page.text and "Quantized" not in page.text
    columns = [column.title for column in render.ladder(TABLES["bare"])["columns"]]
    assert columns == ["Accuracy", "File", "p50 latency", "p90 latency", "p99 latency", "Throughput"]


def test_what_ran_in_float_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the int8 candidate, in the report and on the terminal; of the float one it is no finding."""
    table = build()
    assert Page(render.html(table)).text.count("last (it is an answer)") == 1
    tell(table, tmp_path)
    printed = capsys.readouterr().out
    assert "  int8: 1 convolutions and products run in float: last; it is an answer" in printed
    assert printed.count("run in float") == 1


def test_one_process_has_an_endless_interval_and_still_a_picture() -> None:
    table = build()
    for one in table["targets"][0]["candidates"].values():
        for found in one["latency_ms"].values():
            found.update(low=0.0, high=float("inf"))
    table["targets"][0]["speed_vs_float"].update(low=0.0, high=float("inf"))
    text = Page(render.html(table)).text
    assert "∞]" in text and "nan" not in text.lower().split()


@pytest.mark.parametrize(
    ("found", "limit", "text"),
    [
        ((0.139, -0.528, 0.883), 3.0, "0.139 [-0.528, 0.883]"),
        ((98.0, 97.796, 99.0), 97.8, "98.000 [97.796, 99.000]"),
        ((0.092387, 0.092387, 0.092387), 0.5, "0.0924"),
        ((1234.5, 1200.0, 1300.0), 2000.0, "1,234 [1,200, 1,300]"),
        ((0.3, 0.0, float("inf")), 1.0, "0.300 [0.000, ∞]"),
    ],
)
def test_rounding_never_moves_an_interval_across_its_limit(
    found: tuple[float, float, float], limit: float, text: str
) -> None:
    estimate = dict(zip(("value", "low", "high"), found, strict=True))
    line = {"budget": "p99_ms", "limit": limit, "estimate": estimate, "direction": "at_most"}
    assert render.inline(render.budget_cells(line)["found"]) == text


def test_figures_take_names_as_they_are() -> None:
    picture = figures.tradeoff(build(candidates=("float", "$x_1$ <b>")))
    assert ">$x_1$ &lt;b&gt;</text>" in picture
    assert "var(--card)" in picture and "currentColor" in picture


def test_write_report_leaves_files_that_can_be_read(tmp_path: Path) -> None:
    write_report(TABLES["hostile"], tmp_path)
    found = {path.name: path for path in tmp_path.iterdir()}
    assert found.keys() == {"budgets.svg", "junit.xml", "report.html", "report.json", "summary.md"}
    assert all(ElementTree.parse(found[name]) for name in ("junit.xml", "budgets.svg"))


def test_a_strict_reader_takes_the_report(tmp_path: Path) -> None:
    """An interval of one process has no ends."""
    table = json.loads(json.dumps(TABLES["hostile"]))
    line = next(one for one in table["targets"][0]["lines"] if one["estimate"])
    line["estimate"] |= {"low": -math.inf, "high": math.inf}
    table["more"] = (math.nan, 1.5)

    def refused(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    write_report(table, tmp_path)
    read = json.loads((tmp_path / "report.json").read_text(), parse_constant=refused)
    assert read["more"] == [None, 1.5]
    found = next(one for one in read["targets"][0]["lines"] if one["budget"] == line["budget"])
    assert found["estimate"] == {**line["estimate"], "low": None, "high": None}


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on PATH to open the page in")
def test_a_browser_shows_the_verdict(tmp_path: Path) -> None:
    write_report(TABLES["hostile"], tmp_path)
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    flags += " disable-component-update disable-sync dump-dom"
    command = ["chromium", *(f"--{flag}" for flag in flags.split()), f"--user-data-dir={tmp_path / 'user'}"]
    command.append((tmp_path / "report.html").as_uri())
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "int8 ships" in (page := Page(done.stdout)).text and "PASS" in page.text
    assert "script" not in page.tags and page.tags.count("svg") == 3
    assert HOSTILE[0] in page.text
