"""Whether the fast paths train as well: ``python -m benchmarks.training.same``, digits, ResNet20 to ResNet8, KD."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors.torch import save_file
from scipy import stats

from benchmarks.evidence import RESULTS, circumstances, finished, rows_of, told, write
from benchmarks.methods import accuracy
from benchmarks.training import together
from pipeline.artifacts import checkpoint
from pipeline.data import decoded
from pipeline.data.content import KNOWN
from pipeline.data.decoded import Decoded
from pipeline.engine.stage import ensure
from pipeline.engine.store import Store
from pipeline.models.catalogue import build
from pipeline.models.feature_levels import find_levels
from pipeline.models.tapped_model import Model
from pipeline.plan import plan
from pipeline.recipe.read import read_recipe
from pipeline.recipe.schema import Distill, Training
from pipeline.schemes.base import Setup
from pipeline.schemes.labels import Labels
from pipeline.schemes.offline import offline
from pipeline.schemes.supervised import Supervised
from pipeline.tasks import TASKS
from pipeline.training import loop
from targets.progress import Bar
from targets.spec.profile import read_profile

TOGETHER = "bfloat16, two processes"
# Each path's settings, and whether the teacher is compiled; the first is the plain one.
PATHS: dict[str, tuple[dict[str, Any], bool]] = {
    "float32": ({"precision": "float32"}, False),
    "bfloat16": ({"precision": "bfloat16"}, False),
    "bfloat16, compiled teacher": ({"precision": "bfloat16"}, True),
    "bfloat16, replay = 4": ({"precision": "bfloat16", "replay": 4}, False),
    TOGETHER: ({"precision": "bfloat16"}, False),
}


def network(name: str, data: Decoded) -> Model:
    made = build(name, None, len(data.facts.classes), {}, "same").network
    return Model(made, data.facts.mean, data.facts.std, *find_levels(made, data.facts.shape))


def student(teacher: Model, data: Decoded, path: str, seed: int, epochs: int) -> float:
    """The test accuracy (per cent) after the last epoch."""
    settings, compiled = PATHS[path]
    recipe = Distill.model_validate({"epochs": epochs, "seed": seed, "loss": [{"name": "kd"}], **settings})
    torch.manual_seed(seed)
    learner = network("resnet8", data)
    with tempfile.TemporaryDirectory() as scratch:
        scheme = offline(Setup(learner, learner, [teacher], data, recipe, "distill", Path(scratch)))
        run = loop.Run(scheme, data, recipe.training, Path(scratch) / "run.pt")
        run.history.compiled = compiled
        run.compile_teachers()
        for epoch in range(epochs):
            run.epoch(epoch, path)
    return 100 * accuracy(learner, data)


def cells(rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Against the first path, seed by seed; 95 % by Student."""
    found = {path: np.array([row["accuracy"] for row in rows if row["path"] == path]) for path in PATHS}
    base = found["float32"]
    for path, values in found.items():
        gain = values - base
        half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / len(gain) ** 0.5
        shown = (
            "–"
            if path == "float32"
            else f"{gain.mean():+.2f} [{gain.mean() - half:+.2f}, {gain.mean() + half:+.2f}]"
        )
        yield [path, f"{values.mean():.2f}", f"{values.std(ddof=1):.2f}", shown]


def main(
    seeds: Annotated[int, typer.Option(min=2)] = 5,
    epochs: Annotated[int, typer.Option(min=1)] = 20,
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = RESULTS,
) -> None:
    """Train every path with every seed and write the table."""
    run = circumstances()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data, teacher = prepare(folder, epochs)
        rows = []
        with Bar("same", seeds * len(PATHS)) as bar:
            for seed in range(seeds):
                for path in PATHS:
                    if path == TOGETHER:
                        found = together.start(folder, seed, epochs)
                    else:
                        found = student(teacher, data, path, seed, epochs)
                    rows.append({"path": path, "seed": seed, "accuracy": found})
                    bar.step(f"{path}, seed {seed}")
        table = {
            "rows": rows,
            "epochs": epochs,
            "teacher": 100 * accuracy(teacher, data),
            "run": finished(run),
        }
    write(out, "training-same", table, lines(table))
    print("\n".join(lines(table)))


def prepare(folder: Path, epochs: int) -> tuple[Decoded, Model]:
    """The images and the one teacher of all students, also in the folder for other processes."""
    stage = plan(*read_recipe("digits"), read_profile("cpu"), folder / KNOWN).data
    (folder / "set").symlink_to(ensure(stage, Store(folder), print))
    data = decoded.read(folder / "set")
    torch.manual_seed(0)
    teacher = network("resnet20", data)
    loop.fit(
        Supervised(teacher, Labels(TASKS["classification"], 0.0)),
        data,
        Training(epochs=epochs),
        folder,
        "teacher",
    )
    save_file(checkpoint.tensors_of(teacher), folder / "teacher.safetensors")
    return data, teacher


def lines(table: dict[str, Any]) -> list[str]:
    seeds = 1 + max(row["seed"] for row in table["rows"])
    head = ("path", "test accuracy, %", "standard deviation", "against float32, points [95 %]")
    return [
        "# Whether the fast paths train as well",
        "",
        f"Digits, ResNet20 ({table['teacher']:.2f} %) to ResNet8, KD, {table['epochs']} epochs, the last one's"
        f" student, {seeds} seeds, 719 test images; paired by seed."
        " Of two processes each has half of every batch, and its own statistics of it.",
        "",
        *rows_of(head, cells(table["rows"])),
        "",
        *told(table["run"]),
    ]


if __name__ == "__main__":
    typer.run(main)
