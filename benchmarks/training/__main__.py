"""Images a second of a distillation, ResNet56 to ResNet20: Retort's loop, the public protocol, torchdistill.

``python -m benchmarks.training --data cifar100.npz``. Every contender runs in a process of its own, all in turn, and
so again: the ratios are taken within a round, so what the machine does meanwhile falls on all of them alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.elsewhere import SILENT, python_with
from benchmarks.evidence import RESULTS, ROOT, busy, circumstances, finished, rows_of, told, versions, write
from benchmarks.packs import Files
from benchmarks.training.together import PROCESSES, torchrun
from pipeline.engine.process import PATIENT, threads
from targets.progress import Bar

PAIR, CLASSES = ("resnet56", "resnet20"), 100
MACS = {
    "teacher": 126.6e6,
    "student": 41.2e6,
}  # of an image; a training step of the student takes three times its own
TORCHDISTILL, TWO = "torchdistill", ", two processes"
CASES = [(method, batch) for method in ("kd", "srkd") for batch in (64, 256)]
SIDES = {
    "kd": ("plain", TORCHDISTILL, "ours", "ours, replayed", f"ours{TWO}", f"ours, replayed{TWO}"),
    "srkd": ("plain", "ours"),  # its stages are too large to keep, and torchdistill has no such loss
}
PEAKS = """
import json, time, torch
def peak(kind):
    a, b = torch.randn(2048, 2048).to(kind), torch.randn(2048, 2048).to(kind)
    a @ b
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 2:
        a @ b
        count += 1
    return 2 * 2048**3 * count / (time.perf_counter() - start)
print(json.dumps({str(kind): peak(kind) for kind in (torch.float32, torch.bfloat16)}))
"""

Row = dict[str, Any]


def main(
    data: Files = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    seconds: Annotated[float, typer.Option(help="Timed of each contender in each round.", min=1)] = 10.0,
    images: Annotated[int, typer.Option(help="Training images of a class.", min=6)] = 26,
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = RESULTS,
) -> None:
    """Time every contender in every round and write the table; without --data on random pixels."""
    run = circumstances()
    packages = {TORCHDISTILL: "1.1.5", **{name: versions()[name] for name in ("torch", "torchvision")}}
    other = python_with(packages)
    rows: list[Row] = []
    runs = [(number, *case, side) for number in range(rounds) for case in CASES for side in SIDES[case[0]]]
    with tempfile.TemporaryDirectory() as folder, Bar("training", len(runs)) as bar:
        files = [
            str(path.resolve())
            for path in data or [random_pixels(Path(folder) / "random.npz", 50_000, CLASSES)]
        ]
        peaks = [said([sys.executable, "-c", PEAKS])]
        # A whole number of batches: every epoch of ours is as long as the images that a loader gives.
        count, file = images * CLASSES // 256 * 256, Path(folder) / "spec.json"
        spec = {"data": files, "classes": CLASSES, "pair": PAIR, "images": count, "warm": count}
        for number, method, batch, side in runs:
            file.write_text(json.dumps({**spec, "batch": batch, "method": method, "seconds": seconds}))
            found = said(command(side, other, file), environment(side))
            rows.append({"round": number, "method": method, "batch": batch, "side": side, **found})
            bar.step(f"{method}, {batch}: {side}")
        peaks.append(said([sys.executable, "-c", PEAKS]))
    told_of = "the images given" if data else "random pixels"
    table = {"rows": rows, "peaks": peaks, "versions": packages, "seconds": seconds, "images": told_of}
    table["run"] = finished(run)
    write(out, "training", table, lines(table))
    print("\n".join(lines(table)))


def random_pixels(file: Path, images: int, classes: int) -> Path:
    """So many training images, and one a class to test; no loop's speed looks at what is on them."""
    generator, arrays = np.random.default_rng(0), {}
    for split, count in (("train", images), ("test", classes)):
        arrays[f"x_{split}"] = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % classes
    np.savez(file, **arrays)
    return file


def command(side: str, other: Path, file: Path) -> list[str]:
    if side == TORCHDISTILL:
        return [str(other), str(Path(__file__).with_name("torchdistill_side.py")), str(file)]
    start = torchrun("benchmarks.training.sides") if TWO in side else ["-m", "benchmarks.training.sides"]
    return [sys.executable, *start, side.removesuffix(TWO), str(file)]


def environment(side: str) -> dict[str, str]:
    """As the line starts its own trainings; the others as they start by themselves."""
    if side in ("plain", TORCHDISTILL):
        return {}
    return {**PATIENT, "OMP_NUM_THREADS": threads(PROCESSES)} if TWO in side else PATIENT


def said(words: list[str], more: dict[str, str] | None = None) -> Row:
    """What a contender prints on its last line."""
    known = {**os.environ, **SILENT, **(more or {})}
    done = subprocess.run(words, cwd=ROOT, env=known, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr[-1000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


def cells(table: dict[str, Any]) -> Iterator[list[str]]:
    peak = median(one["torch.bfloat16"] for one in table["peaks"])
    for method, batch in CASES:
        rows = [row for row in table["rows"] if (row["method"], row["batch"]) == (method, batch)]
        by_side = {side: [row for row in rows if row["side"] == side] for side in SIDES[method]}
        base = [row["images_per_second"] for row in by_side["plain"]]
        for side, found in by_side.items():
            rates = [row["images_per_second"] for row in found]
            ratios = sorted(rate / slow for rate, slow in zip(rates, base, strict=True))
            work = 2 * (3 * MACS["student"] + (0 if "replayed" in side else MACS["teacher"]))
            share = f"{median(rates) * work / peak:.0%}" if method == "kd" else "–"
            yield [
                method,
                str(batch),
                side,
                f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})",
                f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                f"{median(row['peak_bytes'] for row in found) / 1e6:,.0f}",
                share,
            ]


def lines(table: dict[str, Any]) -> list[str]:
    rounds = 1 + max(row["round"] for row in table["rows"])
    peaks = {kind: median(one[kind] for one in table["peaks"]) / 1e9 for kind in table["peaks"][0]}
    head = ("method", "batch", "loop", "images a second", "times plain", "peak memory, MB", "of the roofline")
    return [
        "# How fast a student is distilled",
        "",
        *busy(table["run"]),
        f"ResNet56 to ResNet20, 32x32, 100 classes, {table['images']}; {rounds} rounds, {table['seconds']:g} s of"
        " each contender timed in each, after one epoch as warm-up. Median, and in brackets the least and the most;"
        " the ratios are taken within a round.",
        "",
        *rows_of(head, cells(table)),
        "",
        "plain: the public protocol restated (PIL transforms, two loader workers, float32, the teacher in each step,"
        " Retort's losses). torchdistill: its own box, KD loss and ResNets, from PyPI in an environment of its own."
        " ours: the loop of `retort deploy`, its look at the validation split left out, as the others have none."
        " replayed: with `replay = 1`; its first epoch, which asks the teacher, is the warm-up. two processes: with"
        " `--processes 2`, half of each batch in each; the memory is of both.",
        "",
        "The roofline: a product of two matrices of 2048 x 2048 runs here at"
        f" {peaks['torch.float32']:,.0f} GFLOP/s in float32 and {peaks['torch.bfloat16']:,.0f} in bfloat16; the share"
        " is of the latter, for the multiply-adds of the convolutions and linear layers alone.",
        "",
        f"torchdistill {table['versions']['torchdistill']}. " + " ".join(told(table["run"])),
    ]


if __name__ == "__main__":
    typer.run(main)
