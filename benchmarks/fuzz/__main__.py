"""``python -m benchmarks.fuzz``: wrong, broken and hostile input, and what the commands say to it.

Each case is a command with its input changed by a seed, in a folder of its own; a finding is an ending other than
success or one clean line with its exit status, a change outside that folder, or a changed file that passes. The
evidence is results/fuzz.md; ``--case N`` does one again.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.evidence import RESULTS, circumstances, finished, rows_of, told, write
from benchmarks.fuzz import corpus
from benchmarks.fuzz.once import prepare
from benchmarks.fuzz.outcome import Outcome, tried
from benchmarks.fuzz.workers import run
from targets.progress import Bar

SEED, CASES, ALONE = 16, 20_000, 500
SHOWN = 300  # characters of what was said


def main(
    count: Annotated[int, typer.Option("--cases", help="How many.")] = CASES,
    alone: Annotated[int, typer.Option(help="So many of them as real commands.")] = ALONE,
    seed: Annotated[int, typer.Option(help="Draws the cases.")] = SEED,
    case: Annotated[int | None, typer.Option(help="Only this one.")] = None,
    first: Annotated[int, typer.Option(help="The number of the first.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that share them.")] = 2,
    made: Annotated[
        Path | None, typer.Option(help="A folder that keeps what is changed, for many runs.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Try the commands on changed input; the exit status is 1 where there is a finding."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        given = (made or Path(folder) / "corpus").resolve()
        if not given.exists():
            corpus.make(given)
        if case is not None:
            prepare()
            only = tried(seed, case, given, Path(folder) / "alone")
            print("\n".join(f"{key}: {value}" for key, value in asdict(only).items()))
            raise typer.Exit(bool(only.wrong))
        before, began = circumstances(), time.monotonic()
        every = max(1, count // alone) if alone else count + 1
        todo = [(number, number % every == every - 1) for number in range(first, first + count)]
        found: dict[int, Outcome] = {}
        with Bar("fuzz", count) as bar:
            for number, outcome in run(todo, seed, given, Path(folder), workers):
                found[number] = outcome
                bar.step()
                if outcome.wrong:
                    print(f"case {number}: {outcome.wrong}: retort {outcome.command[:SHOWN]!r}", flush=True)
                    print(f"  {outcome.said[:SHOWN]!r}", flush=True)
        table = summary(found, seed, time.monotonic() - began, sum(one for _, one in todo))
    table["run"] = finished(before)
    write(out, "fuzz", table, markdown(table))
    raise typer.Exit(bool(table["findings"]))


def summary(found: dict[int, Outcome], seed: int, seconds: float, alone: int) -> dict[str, Any]:
    kinds: dict[str, Counter[str]] = {}
    for one in found.values():
        kinds.setdefault(one.kind, Counter())["finding" if one.wrong else str(one.status)] += 1
    wrong = [{"case": number, **asdict(one)} for number, one in sorted(found.items()) if one.wrong]
    numbers = {"seed": seed, "cases": len(found), "commands": alone, "seconds": round(seconds)}
    return {**numbers, "kinds": {name: dict(kinds[name]) for name in sorted(kinds)}, "findings": wrong}


def markdown(table: dict[str, Any]) -> list[str]:
    statuses = ("0", "1", "2", "3", "finding")
    rows = [
        (name, *(str(counts.get(status, 0)) for status in statuses))
        for name, counts in table["kinds"].items()
    ]
    lines = [
        "# Changed input, and what the commands said",
        "",
        f"{table['cases']} cases of seed {table['seed']} in {table['seconds']} s, {table['commands']} of them drawn"
        f" to be commands of their own: {len(table['findings'])} findings. By exit status: 0 done, 1 a budget failed,"
        " 2 refused with one line, 3 not measured or not decided.",
        "",
        *rows_of(("what was changed", *statuses), rows),
        "",
        *(
            f"- case {one['case']} ({one['kind']}): {one['wrong']}: {one['said']!r}"
            for one in table["findings"]
        ),
        "",
    ]
    return [*lines, *told(table["run"])]


if __name__ == "__main__":
    typer.run(main)
