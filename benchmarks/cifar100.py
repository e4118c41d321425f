"""The whole line on CIFAR-100, over seeds, beside published figures: ``python -m benchmarks.cifar100``.

A seed fixes the student's first weights and its views; the teacher is one for all seeds, as in the tables that it is
compared with. Taken is the state that does best on a fiftieth of the training images, and the test split is looked at
once.
Each pair is the recipe of its name, whole; ``--epochs`` and the like shorten it, and the table says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.evidence import RESULTS, circumstances, finished, rows_of, told, write
from benchmarks.packs import Files
from pipeline.data.catalogue import CIFAR
from pipeline.engine.store import Store, digest_file
from pipeline.line import Workshop, bundle
from pipeline.recipe.data import Data
from pipeline.recipe.read import read_recipe
from pipeline.recipe.recipe import Recipe
from targets.bundle.prove import prove, report_of
from targets.spec.profile import read_profile

# Top-1 of student and teacher in full-length float32 training (180 to 240 epochs), as the papers print them. KD: Tian
# et al., ICLR 2020; ReviewKD: Chen et al., CVPR 2021; DKD: Zhao et al., CVPR 2022; MLKD: Jin et al., CVPR 2023.
PUBLISHED: dict[str, dict[str, float]] = {
    "cifar100-resnet56-resnet20": {
        "teacher": 72.34, "alone": 69.06, "KD": 70.66, "ReviewKD": 71.89, "DKD": 71.97, "SRKD": 71.84, "MLKD": 72.19
    },
    "cifar100-resnet110-resnet20": {
        "teacher": 74.31, "alone": 69.06, "KD": 70.67, "SRKD": 72.08, "MLKD": 71.89
    },
}  # fmt: skip


def main(
    data: Files = None,
    pair: Annotated[list[str] | None, typer.Option(help="A recipe of the table; repeat.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    teacher_epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    quantize_epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    work: Annotated[Path, typer.Option(help="Where all is kept that is made.")] = Path("build/cifar100"),
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = RESULTS,
) -> None:
    """Send each pair and seed through the line, as far as it has not been done, and write the table.

    Without --data: CIFAR-100, which torchvision downloads.
    """
    run, rows = circumstances(), []
    shorter = {"teacher": teacher_epochs, "distill": epochs, "quantize": quantize_epochs}
    for name in pair or list(PUBLISHED):
        if name not in PUBLISHED:
            raise typer.BadParameter(f"{name}; known: {', '.join(PUBLISHED)}")
        for seed in range(seeds):
            recipe, folder = read_recipe(name)
            recipe = shortened(from_files(recipe, data or []), shorter, seed)
            made = bundle(name, recipe, folder, read_profile("cpu"), "local", Workshop(Store(work), print))
            proof = prove(made, "local", work / "proofs" / f"{name} seed {seed}")
            rows.append(row(name, seed, recipe, report_of([made], [proof])))
            # After each: who stops it keeps what is known.
            table = {"rows": rows, "published": PUBLISHED, "run": finished(run)}
            write(out, "cifar100", table, lines(table))
    print("\n".join(lines(table)))


def from_files(recipe: Recipe, files: list[Path]) -> Recipe:
    """The same recipe with its images taken from files; they count by content."""
    if not files:
        return recipe
    arguments = {"files": {str(file.resolve()): digest_file(file) for file in files}}
    data = Data(
        factory="benchmarks.packs:load", arguments=arguments, size=32, validation=recipe.data.validation
    )
    networks = {
        name: getattr(recipe, name).model_copy(update={key: CIFAR[key] for key in ("mean", "std")})
        for name in ("teacher", "student")
    }
    return recipe.model_copy(update={"data": data, **networks})


def shortened(recipe: Recipe, epochs: dict[str, int | None], seed: int) -> Recipe:
    """With other numbers of epochs where they are given, and the student's seed."""
    sections = {}
    for name, wanted in epochs.items():
        section = getattr(recipe, name)
        changed = {} if wanted is None else {"epochs": wanted}
        sections[name] = section.model_copy(update={**changed, "seed": 0 if name == "teacher" else seed})
    return recipe.model_copy(update=sections)


def row(name: str, seed: int, recipe: Recipe, report: dict[str, Any]) -> dict[str, Any]:
    """What the proof says of a student: per cent of the test images, and how much faster int8 is."""
    (target,) = report["targets"]
    found = {one: 100 * target["candidates"][one]["accuracy"]["value"] for one in ("float", "int8")}
    return {
        "pair": name,
        "seed": seed,
        "epochs": {part: getattr(recipe, part).epochs for part in ("teacher", "distill", "quantize")},
        "test_images": report["test_images"],
        "teacher": 100 * report["networks"][0]["accuracy"]["value"],
        **found,
        "speed_vs_float": target["speed_vs_float"],
        "size_bytes": target["candidates"]["int8"]["size_bytes"],
        "status": target["status"],
        "lines": target["lines"],
    }


def cells(table: dict[str, Any]) -> Iterator[list[str]]:
    for name in dict.fromkeys(row["pair"] for row in table["rows"]):
        rows = [row for row in table["rows"] if row["pair"] == name]
        epochs, published = rows[0]["epochs"], table["published"][name]
        known = ", ".join(f"{method} {value:.2f}" for method, value in published.items())
        yield [
            name.removeprefix("cifar100-"),
            " + ".join(str(epochs[part]) for part in ("teacher", "distill", "quantize")),
            str(len(rows)),
            f"{rows[0]['teacher']:.2f}",
            *(spread([row[one] for row in rows]) for one in ("float", "int8")),
            known,
        ]


def spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def lines(table: dict[str, Any]) -> list[str]:
    head = (
        "pair",
        "epochs",
        "seeds",
        "teacher, %",
        "student, %",
        "int8, %",
        "published, full length, float32",
    )
    return [
        "# CIFAR-100, the whole line",
        "",
        *rows_of(head, cells(table)),
        "",
        "epochs: the teacher's + the student's + quantization-aware ones. Top-1 on the 10,000 test images, mean and"
        " standard deviation over seeds; the student and int8 as ONNX Runtime answers. The published figures are of"
        " trainings of 180 to 240 epochs: a shorter one here is not to be held against them, nor they against it.",
        "",
        *told(table["run"]),
    ]


if __name__ == "__main__":
    typer.run(main)
