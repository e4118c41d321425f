"""How often the gate is wrong, on this machine: recorded, replayed, tried live, and simulated.

  python -m benchmarks.gate --model report/cpu/int8.onnx

Everything is kept row by row under --work; the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from PIL import Image

from benchmarks.evidence import RESULTS, circumstances, finished, write
from benchmarks.gate import accuracy
from benchmarks.gate.planted import CONDITIONS
from benchmarks.gate.rules import replays, truth, usual
from benchmarks.gate.table import markdown, plot
from benchmarks.gate.traces import BUDGET, SLOWER, Kept, Row, live, record, variants
from targets.budgets.line import Outcome
from targets.spec.contract import Contract, read_contract
from targets.spec.profile import read_profile
from targets.stats.intervals import ERROR, LOOKS

REPLAYS = 4000
AWAY = (-5.0, -2.5, 0.0, 2.5, 5.0)  # points between the truth and the limit it is judged by
# Live, other conditions have the two that matter to a CI: a change that does nothing, and a regression.
LIVE = {
    "idle": tuple(slower for slower in SLOWER if slower != BUDGET),
    "one core loaded": (0.0, 10.0),
    "bursts": (0.0, 10.0),
}


def main(
    model: Annotated[Path, typer.Option(help="An ONNX file that says what it takes, such as deploy leaves.")],
    processes: Annotated[int, typer.Option(help="Of each trace.", min=LOOKS[-1])] = 150,
    trials: Annotated[int, typer.Option(help="Live, of each setting.", min=1)] = 40,
    condition: Annotated[list[str] | None, typer.Option(help="Repeat; all when none is named.")] = None,
    work: Annotated[Path, typer.Option(help="Where rows are kept.")] = Path("build/gate"),
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = RESULTS,
) -> None:
    """Record, try, replay, simulate, and draw the table of what there is."""
    chosen = condition or list(CONDITIONS)
    if not set(chosen) <= set(CONDITIONS):
        raise typer.BadParameter(f"conditions are {', '.join(CONDITIONS)}")
    profile, contract = read_profile("cpu"), read_contract(onnx.load(model))
    if contract is None:
        raise typer.BadParameter(f"{model} does not say what it takes; give a file that retort made")
    run = circumstances()
    work.mkdir(parents=True, exist_ok=True)
    files = variants(model, contract, profile, work)
    images = some_images(work / "images", contract)
    for name in chosen:
        trace, tried = (Kept(work / f"{kind} {name}.jsonl") for kind in ("trace", "live"))
        record(files, contract, profile, trace, name, processes)
        live(files, images, profile, tried, name, LIVE[name], trials)
    if "idle" in chosen:  # what cannot be decided takes longest, so it comes last
        live(files, images, profile, Kept(work / "live idle.jsonl"), "idle", (BUDGET,), trials)
    table = evaluated(work, profile.seconds / LOOKS[-1])
    table |= {"model": model.name, "size": contract.size[0], "run": finished(run)}
    write(out, "gate", table, markdown(table))
    (out / "gate.svg").write_text(plot(table), encoding="utf-8")
    (out / "gate-traces.jsonl").write_text("\n".join(evidence(work)) + "\n", encoding="utf-8")
    print("\n".join(markdown(table)))


def some_images(folder: Path, contract: Contract) -> Path:
    """A picture of noise for each class: the latency is judged, not the answers."""
    draw = np.random.default_rng(0)
    for name in contract.classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        picture = draw.integers(0, 256, (*contract.size, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / name / "noise.png")
    return folder


def evaluated(work: Path, timed_s: float) -> dict[str, Any]:
    """All rows, and what the gate and the usual rules make of them."""
    conditions = {}
    for name in CONDITIONS:
        rows = Kept(work / f"trace {name}.jsonl").rows()
        tried = Kept(work / f"live {name}.jsonl").rows()
        if len(rows) >= LOOKS[-1]:
            conditions[name] = {**judged(rows, timed_s), "live": tried}
    return {
        "conditions": conditions,
        "error": ERROR,
        "replays": REPLAYS,
        "accuracy": list(accuracy.drops()),
        "classes": list(accuracy.worst_classes()),
        "accuracy_limit": accuracy.LIMIT,
        "recall_limit": accuracy.RECALL,
    }


def evidence(work: Path) -> Iterator[str]:
    """What was recorded, a line a process; six figures."""
    for name in CONDITIONS:
        for row in Kept(work / f"trace {name}.jsonl").rows():
            of = {
                variant: {k: float(f"{x:.6g}") for k, x in seen.items()}
                for variant, seen in row["of"].items()
            }
            yield json.dumps({"condition": name, **row, "of": of}, separators=(",", ":"))


def judged(rows: list[Row], timed_s: float) -> dict[str, Any]:
    """Replays with the limit at a distance from each variant's truth, and the usual rules at the 5 %."""
    away: dict[float, list[tuple[bool, Outcome, float]]] = {gap: [] for gap in AWAY}
    tails: list[Outcome] = []
    known = {slower: truth(rows, slower) for slower in map(str, SLOWER)}
    for number, slower in enumerate(map(str, SLOWER)):
        for gap in AWAY:
            found = replays(rows, slower, known[slower] - gap, timed_s, REPLAYS // len(SLOWER), number)
            away[gap] += [(gap > 0, outcome, seconds) for outcome, seconds in found]
        tail = truth(rows, slower, "p99_ratio")
        tails += [
            one
            for one, _ in replays(
                rows, slower, tail, timed_s, REPLAYS // len(SLOWER), 100 + number, "p99_ratio"
            )
        ]
    curve = {slower: answers(rows, slower, timed_s) for slower in map(str, SLOWER)}
    return {
        "truth": known,
        "processes": len(rows),
        "recorded": [stamp(row["when"]) for row in (rows[0], rows[-1])],
        "p50_ms": 1000 * float(np.median([row["of"]["0.0"]["p50"] for row in rows])),
        "spread": float(np.std([np.log(row["of"]["0.0"]["ratio"]) for row in rows], ddof=1)),
        "load": float(np.mean([row["load"] for row in rows])),
        "away": {str(gap): shares(found) for gap, found in away.items()},
        "tail_decided": sum(one is not Outcome.INCONCLUSIVE for one in tails) / len(tails),
        "curve": curve,
    }


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def shares(found: list[tuple[bool, Outcome, float]]) -> dict[str, float]:
    """``found``: whether the limit is truly broken, what was said, after how many seconds.

    At the limit itself either answer is wrong.
    """
    right = [one is (Outcome.FAIL if broken else Outcome.PASS) for broken, one, _ in found]
    took = [seconds for _, _, seconds in found]
    return {
        "PASS": sum(one is Outcome.PASS for _, one, _ in found) / len(found),
        "FAIL": sum(one is Outcome.FAIL for _, one, _ in found) / len(found),
        "right_20s": sum(ok and s <= 20 for ok, s in zip(right, took, strict=True)) / len(found),
        "right_60s": sum(ok and s <= 60 for ok, s in zip(right, took, strict=True)) / len(found),
        "seconds": float(np.median(took)),
    }


def answers(rows: list[Row], slower: str, timed_s: float) -> dict[str, dict[str, float]]:
    """How often each rule says PASS and FAIL of a variant at the budget of 5 %."""
    told = [outcome for outcome, _ in replays(rows, slower, BUDGET, timed_s, REPLAYS, 7)]
    gate = {word: sum(one.value == word for one in told) / len(told) for word in ("PASS", "FAIL")}
    others = usual(rows, slower, BUDGET, 7)
    plain = {
        rule: {"PASS": sum(passes) / len(passes), "FAIL": 1 - sum(passes) / len(passes)}
        for rule, passes in others.items()
    }
    return {"retort gate": gate, **plain}


if __name__ == "__main__":
    typer.run(main)
