"""``python -m benchmarks.mutants``: faults planted in pipeline/ and targets/, each judged by its module's tests.

A fault that no test sees says that a test is missing. Each is planted in a copy of the project; its tests must pass
there without it and fail with it. Results are written after each fault, and what has a row of the same fault, file
and tests is not run again unless it is named. The evidence is results/mutants.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.evidence import RESULTS, circumstances, commit, finished, rows_of, told, write
from benchmarks.mutants.planted import Mutant, mutants
from benchmarks.mutants.trial import Trial
from targets.errors import Refusal
from targets.progress import Bar

Rows = dict[str, dict[str, Any]]


def main(
    only: Annotated[list[str] | None, typer.Argument(help="Faults by name; else all without a row.")] = None,
    again: Annotated[bool, typer.Option("--again", help="All, whatever was found before.")] = False,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Plant each fault and run its tests; the exit status is 1 where one is not caught or not judged."""
    planted = mutants()
    unknown = [name for name in only or () if name not in planted]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}; known: {', '.join(planted)}")
    before, rows = circumstances(), {} if again else kept(out, planted)
    unjudged: list[str] = []
    todo = only or [name for name in planted if name not in rows]
    # Together, so that those with the same tests share the run without a fault while little else has changed.
    todo.sort(key=lambda name: planted[name].tests)
    keys = {name: planted[name].key for name in todo}  # of the files as they are copied now
    with (
        tempfile.TemporaryDirectory(prefix="mutants-") as folder,
        Trial(Path(folder)) as trial,
        Bar("mutants", len(todo)) as bar,
    ):
        for name in todo:
            try:
                outcome, run = trial.of(planted[name])
            except Refusal as why:
                print(why, file=sys.stderr, flush=True)
                unjudged.append(name)
                continue
            found = {"outcome": outcome, "by": run.failed, "seconds": run.seconds}
            rows[name] = {"name": name, "key": keys[name], **found, "source": commit()}
            bar.step(f"{name}: {outcome}")
            save(out, planted, rows, finished(before))
    save(out, planted, rows, finished(before))
    raise typer.Exit(bool(unjudged or unexplained(planted, rows)))


def kept(out: Path, planted: Mapping[str, Mutant]) -> Rows:
    """The rows of earlier runs that are of these faults, files and tests."""
    file = out / "mutants.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    return {
        row["name"]: row for row in rows if row["name"] in planted and planted[row["name"]].key == row["key"]
    }


def unexplained(planted: Mapping[str, Mutant], rows: Rows) -> list[str]:
    """Those that were not caught, and of which it is not said why no test can."""
    return [name for name, row in rows.items() if row["outcome"] != "killed" and not planted[name].equivalent]


def save(out: Path, planted: Mapping[str, Mutant], rows: Rows, run: dict[str, Any]) -> None:
    ordered = [rows[name] for name in planted if name in rows]
    write(out, "mutants", {"rows": ordered, "run": run}, markdown(planted, ordered, run))


def markdown(planted: Mapping[str, Mutant], rows: list[dict[str, Any]], run: dict[str, Any]) -> list[str]:
    counts = Counter(row["outcome"] for row in rows)
    left = [row for row in rows if row["outcome"] != "killed"]
    lines = (
        (
            planted[row["name"]].file,
            planted[row["name"]].wrong,
            row["outcome"],
            f"`{row['by'].rpartition('/')[2]}`" if row["by"] else "",
            f"{row['seconds']:.0f}",
            row["source"],
        )
        for row in rows
    )
    return [
        "# Planted faults, and whether the tests of their module catch them",
        "",
        f"{counts['killed']} of {len(rows)} are caught, {counts['survived']} are not, {counts['timed out']} ran too"
        f" long; {len(planted) - len(rows)} were not run. `make mutants` plants them again.",
        "",
        *(
            f"- {row['name']} ({planted[row['name']].file}: {planted[row['name']].wrong}): {row['outcome']};"
            f" {planted[row['name']].equivalent or 'a test is missing'}"
            for row in left
        ),
        *([""] if left else []),
        *rows_of(("file", "fault", "outcome", "by", "s", "source"), lines),
        "",
        *told(run),
    ]


if __name__ == "__main__":
    typer.run(main)
