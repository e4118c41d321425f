"""How a step's time and memory grow: ``python -m benchmarks.training.growth``; random pixels, this loop alone."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from benchmarks.evidence import RESULTS, busy, circumstances, finished, rows_of, told, write
from benchmarks.training.__main__ import random_pixels, said
from pipeline.engine.process import PATIENT
from pipeline.models.catalogue import build, macs
from targets.progress import Bar

BASE = {"images": 2_560, "classes": 100, "pair": ("resnet20", "resnet8")}
SPARE = 10  # images of a class that no training sees
PAIRS = ("resnet56", "resnet20"), ("resnet110", "resnet32"), ("resnet110", "resnet110")
CASES: list[dict[str, Any]] = [
    *({"images": 640 * times} for times in (1, 4, 16)),
    *({"classes": classes} for classes in (10, 1000)),
    *({"images": 640, "pair": pair} for pair in PAIRS),
]


def work(pair: tuple[str, str], classes: int) -> float:
    """Multiply-adds of an image: the teacher's pass, and three times the student's."""
    both = [macs(build(name, None, classes, {}, "growth").network, torch.rand(1, 3, 32, 32)) for name in pair]
    return both[0] + 3 * both[1]


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    seconds: Annotated[float, typer.Option(min=1)] = 5.0,
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = RESULTS,
) -> None:
    """Time every case in every round and write the table."""
    run, rows = circumstances(), []
    with tempfile.TemporaryDirectory() as folder, Bar("growth", rounds * len(CASES)) as bar:
        for number in range(rounds):
            for index, case in enumerate(CASES):
                spec = {**BASE, **case}
                file = Path(folder) / f"{spec['images']}-{spec['classes']}.npz"
                if not file.exists():
                    random_pixels(file, spec["images"] + SPARE * spec["classes"], spec["classes"])
                more = {"data": [str(file)], "batch": 64, "method": "kd", "warm": 640, "seconds": seconds}
                (Path(folder) / "spec.json").write_text(json.dumps({**spec, **more}))
                words = [
                    sys.executable,
                    "-m",
                    "benchmarks.training.sides",
                    "ours",
                    str(Path(folder) / "spec.json"),
                ]
                rows.append({"round": number, "case": index, **spec, **said(words, PATIENT)})
                bar.step(str(case))
    table = {"rows": rows, "run": finished(run)}
    write(out, "training-growth", table, lines(table))
    print("\n".join(lines(table)))


def cells(rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    for index in range(len(CASES)):
        mine = [row for row in rows if row["case"] == index]
        spec, rates = mine[0], [row["images_per_second"] for row in mine]
        cost = work(tuple(spec["pair"]), spec["classes"])
        yield [
            f"{spec['images']:,}",
            f"{spec['classes']:,}",
            " to ".join(spec["pair"]),
            f"{cost / 1e6:,.0f}",
            f"{1e6 / median(rates):,.0f} ({1e6 / max(rates):,.0f} to {1e6 / min(rates):,.0f})",
            f"{1e12 / median(rates) / cost:.1f}",
            f"{median(row['peak_bytes'] for row in mine) / 1e6:,.0f}",
        ]


def lines(table: dict[str, Any]) -> list[str]:
    head = (
        "images",
        "classes",
        "networks",
        "M multiply-adds",
        "µs an image",
        "ps a multiply-add",
        "peak memory, MB",
    )
    return [
        "# How the training's time and memory grow",
        "",
        *busy(table["run"]),
        "KD, batch 64, bf16; the multiply-adds of the teacher's pass and of three of the student's. Median of"
        f" {1 + max(row['round'] for row in table['rows'])} rounds, in brackets the least and the most.",
        "",
        *rows_of(head, cells(table["rows"])),
        "",
        *told(table["run"]),
    ]


if __name__ == "__main__":
    typer.run(main)
