"""What a run prints: notes on the way to standard error, the verdict to standard output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from targets.errors import FAILED, UNDECIDED, one_line

Table = dict[str, Any]

STYLES = {
    "PASS": "bold green",
    "FAIL": "bold red",
    "INCONCLUSIVE": "bold yellow",
    "NOT MEASURED": "bold yellow",
    "SIMULATED": "bold magenta",
}
NAMED = 3  # operators on a line; the report has them all
WORDS = {0: "PASS", 1: "FAIL", 3: "NOT DECIDED"}


def tell(table: Table, folder: Path) -> None:
    """The verdict of each target, a line a budget, then where the report is."""
    console = Console(highlight=False, soft_wrap=True)
    for target in shown(table["targets"]):
        console.print()
        console.print(f"{target['target']} on {target['device']}: {headline(target)}", markup=False)
        console.print(f"  {target['reason']}", markup=False)
        if target["throttling"]:
            console.print(f"  {target['throttling']['says']}", markup=False)
        for line in target["lines"]:
            text = Text(f"  {line['outcome']:<12}", STYLES[line["outcome"]])
            text.append(f"  {line['budget']:<21} {amount(line)}", "none")
            console.print(text)
        for name, one in target["candidates"].items():
            if said := in_float(one["facts"]):
                console.print(f"  {name}: {said}", markup=False)
        for name, lines in target["rejected"].items():
            told = "; ".join(f"{line['budget']} {line['outcome']}: {amount(line)}" for line in lines)
            console.print(f"  {name} is not proved: {told}", markup=False)
    console.print()
    console.print(f"{WORDS[table['status']]}  report: {folder / 'report.html'}", markup=False)


def shown(value: Any) -> Any:
    """A table whose every text is one line that steers nothing: a class is called what its folder is called."""
    if isinstance(value, dict):
        return {one_line(str(name)): shown(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    return one_line(value) if isinstance(value, str) else value


def headline(target: Table) -> str:
    """What the verdict comes to, in a few words."""
    ship, lines = target["ship"], target["lines"]
    if ship is None:
        return "nothing is proved"
    broken = [line["budget"] for line in lines if line["outcome"] == "FAIL"]
    undecided = [line["budget"] for line in lines if line["outcome"] not in ("PASS", "FAIL")]
    if target["status"] == FAILED:
        return f"{ship} breaks {', '.join(broken)}"
    if target["status"] == UNDECIDED:
        return f"{ship} is not proved; undecided: {', '.join(undecided)}"
    return f"{ship} ships" if lines else f"{ship} ships; no budgets were set"


def in_float(facts: Table) -> str:
    """Which convolutions and products of an int8 file ran in float, where its runtime tells; empty for none."""
    names = facts.get("float_operators") or []
    if not names or facts.get("precision") != "int8":
        return ""
    reasons = sorted(set(facts.get("left_float", {}).values()))
    first = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return f"{len(names)} convolutions and products run in float: {first}" + "".join(
        f"; {why}" for why in reasons
    )


def amount(line: Table) -> str:
    """``0.14 points [-0.53, 0.88], budget 3 (2 lost, 1 won of 719)``"""
    found, unit = line["estimate"], line["unit"]
    if found is None:
        return f"budget {line['limit']:g} {unit} ({line['note']})"
    interval = ""
    if found["low"] != found["high"]:
        interval = f" [{figures(found['low'])}, {figures(found['high'])}]"
    note = f" ({line['note']})" if line["note"] else ""
    return f"{figures(found['value'])} {unit}{interval}, budget {line['limit']:g}{note}"


def figures(value: float) -> str:
    """Three figures that count, never fewer than the whole number has."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
