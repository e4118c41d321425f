"""``python -m benchmarks.fuzz.kills``: commands that are killed at random moments, and run again.

After TERM, INT and HUP nothing runs or lies about when the command has ended. After KILL its processes end within
five seconds. The next run leaves no temporary folder, also not of the killed one, and keeps the very files that an
undisturbed run makes. Results are written after each kill; a run goes on where another stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer

from benchmarks.evidence import RESULTS, circumstances, commit, finished, now, rows_of, told, write
from benchmarks.fuzz import corpus
from benchmarks.fuzz.victims import Victim, prepared
from targets.progress import Bar

COUNTS = {"deploy": 60, "gate": 50, "measure": 90}
SIGNALS = ("KILL", "TERM", "INT", "HUP")
WITHIN_S, PATIENCE_S = 5.0, 600.0
SEED = 16
Row = dict[str, Any]


def main(
    made: Annotated[Path | None, typer.Option(help="A folder that keeps the undisturbed runs.")] = None,
    minutes: Annotated[float, typer.Option(help="Begin no further kill after so long.")] = 60,
    workers: Annotated[int, typer.Option(help="Commands at once.")] = 2,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Kill commands; the exit status is 1 where something was wrong afterwards."""
    todo = [f"{command} {number}" for command, count in COUNTS.items() for number in range(count)]
    rows, before, began = kept(out), circumstances(), time.monotonic()
    left = [name for name in todo if name not in rows]
    Random(SEED).shuffle(left)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder, Bar("kills", len(left)) as bar:
        place = made or Path(folder)
        undisturbed(place)

        def one(name: str) -> None:
            if time.monotonic() - began < 60 * minutes:
                rows[name] = {
                    "name": name,
                    **killed(name, place, Path(folder)),
                    "when": now(),
                    "source": commit(),
                }
                table = {"rows": [rows[each] for each in todo if each in rows], "run": finished(before)}
                write(out, "kills", table, markdown(table))
            bar.step(name)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, left))
    raise typer.Exit(any(row["wrong"] for row in rows.values()))


def kept(out: Path) -> dict[str, Row]:
    file = out / "kills.json"
    return {row["name"]: row for row in json.loads(file.read_text())["rows"]} if file.exists() else {}


def undisturbed(place: Path) -> None:
    """What each command makes when nothing disturbs it, and how long it takes."""
    if not (place / "corpus").exists():
        corpus.make(place / "corpus")
    for command in COUNTS:
        folder = place / "whole" / command
        if (folder / "seconds").exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        victim, _ = prepared(command, place / "corpus", folder, place / "none", Random(0))
        began, run = time.monotonic(), victim.start()
        said = run.communicate()[1]
        if run.returncode != 0:
            raise RuntimeError(f"{command}: status {run.returncode}: {said}")
        (folder / "seconds").write_text(str(time.monotonic() - began))


def killed(name: str, place: Path, work: Path) -> Row:
    """One command killed once, at a moment drawn from the time that it takes, and run again."""
    command, random = name.split()[0], Random(name)
    sign, group = random.choice(SIGNALS), random.random() < 0.5
    whole = place / "whole" / command
    victim, making = prepared(command, place / "corpus", work / name, whole, random)
    share, limit = random.random(), length(whole, making)
    run = victim.start()
    try:
        run.wait(timeout=share * limit)
        row: Row = {"at": "it had ended", "seconds": round(share * limit, 2)}
    except subprocess.TimeoutExpired:
        row = {"at": " ".join(at_work(victim)), "seconds": round(share * limit, 2)}
        (os.killpg if group else os.kill)(run.pid, signal.Signals[f"SIG{sign}"])
        run.wait(PATIENCE_S)  # not for its output's end: what still runs may hold that
    wrong = afterwards(victim, sign, run.returncode, row)
    if "Traceback" in (said := run.communicate()[1]):
        wrong.append(f"a traceback: {said.splitlines()[-1]}")
    wrong += next_run(victim, whole, making)
    shutil.rmtree(victim.folder)
    return {"command": command, "making": making, "signal": sign, "group": group, **row, "wrong": wrong}


def length(whole: Path, making: str) -> float:
    """Seconds that a run takes: of a deploy, of its one stage and what comes before and after it."""
    seconds = float((whole / "seconds").read_text())
    stages = {
        path.parent.name.split("-")[0]: float(json.loads(path.read_text())["seconds"])
        for path in whole.glob("store/objects/*/origin.json")
    }
    return seconds - sum(stages.values()) + stages.get(making, 0.0)


def at_work(victim: Victim) -> list[str]:
    """The modules that its processes are."""
    words = [line.split() for line in victim.running()]
    return sorted({one[one.index("-m") + 1] for one in words if "-m" in one})


def afterwards(victim: Victim, sign: str, status: int, row: Row) -> list[str]:
    """What is wrong when the command has ended."""
    wrong = [f"still runs: {module}" for module in at_work(victim)] if sign != "KILL" else []
    if sign == "KILL":
        deadline = time.monotonic() + WITHIN_S
        began = time.monotonic()
        while victim.running() and time.monotonic() < deadline:
            time.sleep(0.05)
        row["ended_after_s"] = round(time.monotonic() - began, 2)
        return [f"runs after {WITHIN_S:g} s: {module}" for module in at_work(victim)]
    wrong += [f"lies about: {name}" for name in victim.lying_about()]
    number = signal.Signals[f"SIG{sign}"]
    if status not in (0, 128 + number, -number):  # it may have ended, or not yet have heard of signals
        wrong.append(f"exit status {status}")
    return wrong


def next_run(victim: Victim, whole: Path, making: str) -> list[str]:
    """What is wrong after the command was given once more and nothing disturbed it."""
    run = victim.start()
    said = run.communicate(timeout=PATIENCE_S)[1]
    wrong = [f"the next run: status {run.returncode}: {said.splitlines()[-1:]}"] if run.returncode else []
    wrong += [f"after the next run lies about: {name}" for name in victim.lying_about()]
    wrong += [f"after the next run still runs: {words[:100]}" for words in victim.running()]
    expected, found = Victim(victim.command, whole).results(), victim.results()
    names = sorted(expected.keys() | found.keys())
    wrong += [f"differs: {name}" for name in names if expected.get(name) != found.get(name)]
    return wrong


def markdown(table: dict[str, Any]) -> list[str]:
    rows: list[Row] = table["rows"]
    wrong = [row for row in rows if row["wrong"]]

    def table_of(key: Callable[[Row], str], head: str) -> list[str]:
        kinds = sorted({key(row) for row in rows})
        count = Counter((key(row), row["signal"]) for row in rows)
        bad = Counter((key(row), row["signal"]) for row in wrong)
        cell = lambda kind, sign: (
            f"{count[kind, sign]}" + (f", **{bad[kind, sign]}**" if bad[kind, sign] else "")
        )
        return rows_of((head, *SIGNALS), [(kind, *(cell(kind, sign) for sign in SIGNALS)) for kind in kinds])

    ended = [row["ended_after_s"] for row in rows if "ended_after_s" in row]
    late = sum(row["at"] == "it had ended" for row in rows)
    return [
        "# Commands killed at random moments, and run again",
        "",
        f"{len(rows)} of {sum(COUNTS.values())} kills, {len(wrong)} findings (bold). After KILL the last process"
        f" ended within {max(ended, default=0):g} s. {late} had ended before their moment. A deploy finds the"
        " artifacts of all stages in its store but one, and measures untimed, as does measure; gate is timed.",
        "",
        *table_of(
            lambda row: f"{row['command']}, {'its group' if row['group'] else 'the process'}", "command"
        ),
        "",
        *table_of(
            lambda row: row["making"] if row["command"] == "deploy" else row["command"], "what it was making"
        ),
        "",
        *(
            f"- {row['name']}: {row['signal']} after {row['seconds']} s at {row['at']}: {'; '.join(row['wrong'])}"
            for row in wrong
        ),
        "",
        *told(table["run"]),
    ]


if __name__ == "__main__":
    typer.run(main)
