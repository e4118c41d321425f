"""Methods compared: each distillation loss on one pair of networks, over seeds, beside KD and the student alone.

A seed fixes the student's first weights, the order of the images and their crops, for all methods alike, so that
methods are compared seed by seed. Nothing is chosen on the test split: defaults of the catalogue, the last epoch.
Rows are kept one by one; the same command goes on where it was stopped, and draws the table of what there is.

The whole of CIFAR-100 in the usual protocol (days on a processor):
  python -m benchmarks.methods --pair resnet56:resnet20 --classes 100 --images 500 --epochs 240 --teacher-epochs 240
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.evidence import RESULTS, circumstances, finished, now, write
from benchmarks.methods_table import markdown, plot
from benchmarks.packs import Files, load
from pipeline.artifacts import checkpoint
from pipeline.data.catalogue import CIFAR, DATASETS, Images
from pipeline.data.decoded import TEST, TRAIN, VALIDATION, Decoded, Facts
from pipeline.engine.store import digest, write_json
from pipeline.losses import LOSSES
from pipeline.models.catalogue import build
from pipeline.models.feature_levels import find_levels
from pipeline.models.split_model import Parts
from pipeline.models.tapped_model import Model, Outputs
from pipeline.recipe.schema import Distill, Training
from pipeline.schemes.base import Setup
from pipeline.schemes.labels import Labels
from pipeline.schemes.offline import offline
from pipeline.schemes.supervised import Supervised
from pipeline.tasks import TASKS
from pipeline.training import loop
from targets.errors import Refusal, first_line
from targets.image_folder import Decoding
from targets.progress import Bar

ALONE = "student alone"
# Looked at after each epoch and never used: the loop wants some.
LOOKED_AT = 2
SEEDS = 5
REMEMBERED_BYTES = 3_000_000_000

# How a method is used where it is more than cross-entropy and itself at its catalogue's weight.
KD = {"name": "kd", "weight": 1.0}
USED: dict[str, dict[str, Any]] = {
    ALONE: {"loss": []},
    "kd": {"label_weight": 0.1, "loss": [{"name": "kd"}]},
    "srkd": {"loss": [KD, {"name": "srkd"}]},
    "m-fitnet": {"loss": [KD, {"name": "m-fitnet"}]},
    "logit-std": {"label_weight": 0.1, "loss": [{"name": "logit-std"}]},
    "hard-target": {"label_weight": 0.5, "loss": [{"name": "hard-target"}]},
    "lit": {
        "label_weight": 0.05,
        "loss": [{"name": "kd", "weight": 0.95, "temperature": 6}, {"name": "lit"}],
    },
    "afd": {"loss": [KD, {"name": "afd"}]},
    "semckd": {"loss": [KD, {"name": "semckd"}]},
    "stage-by-stage": {"label_weight": 0.0, "loss": [{"name": "stage-by-stage"}]},
    "inherited": {"label_weight": 0.0, "loss": [{"name": "inherited"}]},
}


@dataclass(frozen=True)
class Protocol:
    """What a row depends on, beside its method and seed."""

    teacher: str
    student: str
    classes: int
    images: int  # of a class, for the student; the teacher has them all
    epochs: int
    teacher_epochs: int
    batch: int
    lr: float
    schedule: str
    data: str  # digest of the images

    def training(self, epochs: int, seed: int) -> dict[str, Any]:
        common = {"batch": self.batch, "lr": self.lr, "schedule": self.schedule, "warmup": 0.0}
        return {**common, "epochs": epochs, "seed": seed}


class Remembered(Parts):
    """A teacher that is asked once about a batch: the next method shows it the same views."""

    def __init__(self, model: Model) -> None:
        super().__init__(model, model, "teacher")
        self.known: dict[tuple[bytes, float], Outputs] = {}
        self.bytes = 0

    def __call__(self, images: Tensor) -> Outputs:
        key = (images[:, :, 0].numpy().tobytes(), float(images.sum()))
        if key in self.known:
            return self.known[key]
        found = super().__call__(images)
        if self.bytes < REMEMBERED_BYTES:
            self.known[key] = found
            self.bytes += sum(x.nbytes for x in (found.logits, found.pooled, *found.stages))
        return found


def main(
    data: Files = None,
    pair: Annotated[str, typer.Option(help="teacher:student.")] = "resnet32:resnet8",
    method: Annotated[list[str] | None, typer.Option(help="A loss; repeat. All when none is named.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Repeat; 0 to 4 when none is given.")] = None,
    classes: Annotated[int, typer.Option(help="The first so many.", min=2)] = 20,
    images: Annotated[int, typer.Option(help="Training images of a class, for the student.", min=2)] = 100,
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    teacher_epochs: Annotated[int, typer.Option(min=1)] = 30,
    batch: Annotated[int, typer.Option(min=2)] = 64,
    lr: float = 0.05,
    schedule: str = "cosine",
    threads: Annotated[int, typer.Option(help="Of this process; for others beside it.", min=0)] = 0,
    work: Annotated[Path, typer.Option(help="Where rows and the teacher are kept.")] = Path("build/methods"),
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = RESULTS,
) -> None:
    """Train every method with every seed, as far as it has not been done, and draw the table.

    Without --data: CIFAR-100, which torchvision downloads.
    """
    seeds = seed or list(range(SEEDS))
    chosen = [ALONE, *LOSSES] if not method else list(dict.fromkeys([ALONE, "kd", *method]))
    unknown = [name for name in chosen if name not in {ALONE, *LOSSES}]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}; retort methods lists them")
    source = load(data) if data else DATASETS["cifar100"].load()
    teacher, _, student = pair.partition(":")
    key = digest([source.images[:1000].tolist(), len(source.images)])  # type: ignore[union-attr]
    protocol = Protocol(teacher, student, classes, images, epochs, teacher_epochs, batch, lr, schedule, key)
    folder = work / digest(asdict(protocol))[:16]
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads or torch.get_num_threads())
    run = circumstances()
    told = {"protocol": asdict(protocol), "teacher": teach(protocol, source, folder), "used": USED}
    with Bar("methods", len(chosen) * len(seeds)) as bar:
        for number in seeds:
            for is_new in with_seed(protocol, source, folder, chosen, number, bar):
                if is_new:  # who stops it keeps what is known
                    draw(told, folder, run, out)
    print("\n".join(markdown(draw(told, folder, run, out))))


def draw(told: dict[str, Any], folder: Path, run: dict[str, Any], out: Path) -> dict[str, Any]:
    """The table of the rows that there are, as files; and itself."""
    table = {**told, "rows": rows(folder), "run": finished(run)}
    write(out, "methods", table, markdown(table))
    (out / "methods.svg").write_text(plot(table), encoding="utf-8")
    return table


def take(source: Images, classes: int, images: int | None) -> Decoded:
    """The first classes, so many training images of each; a few others to look at, and the test split."""
    assert source.test is not None
    split = np.full(len(source.labels), -1, np.int8)
    for label in range(classes):
        mine = np.flatnonzero((source.labels == label) & ~source.test)
        split[mine[: images or len(mine) - LOOKED_AT]] = TRAIN
        split[mine[-LOOKED_AT:]] = VALIDATION
    split[source.test & (source.labels < classes)] = TEST
    kept = split >= 0
    facts = Facts(source.classes[:classes], Decoding((32, 32)), True, **CIFAR)
    return Decoded(np.asarray(source.images)[kept], source.labels[kept], split[kept], facts)


def network(name: str, classes: int) -> Model:
    made = build(name, None, classes, {}, "--pair").network
    return Model(made, CIFAR["mean"], CIFAR["std"], *find_levels(made, (3, 32, 32)))


def accuracy(model: Model, data: Decoded) -> float:
    right = loop.predict(model, data, TEST).argmax(1).numpy() == data.labels[data.part(TEST)]
    return float(right.mean())


def teach(protocol: Protocol, source: Images, folder: Path) -> dict[str, Any]:
    """The one teacher of all rows, trained once on all images of the classes."""
    index = folder / "teacher.json"
    if not index.exists():
        torch.manual_seed(0)
        data, model = take(source, protocol.classes, None), network(protocol.teacher, protocol.classes)
        settings = Training(**protocol.training(protocol.teacher_epochs, 0))
        run = loop.Run(
            Supervised(model, Labels(TASKS["classification"], 0.0)), data, settings, folder / "teacher.pt"
        )
        with Bar("teacher", settings.epochs) as bar:
            for epoch in range(settings.epochs):
                run.epoch(epoch, "teacher")
                bar.step(f"loss {run.history.loss[-1]:.3f}")
        save_file(checkpoint.tensors_of(model), folder / "teacher.safetensors")
        write_json(index, {"accuracy": accuracy(model, data), "loss": run.history.loss[-1]})
    return json.loads(index.read_text())  # type: ignore[no-any-return]


def with_seed(
    protocol: Protocol, source: Images, folder: Path, methods: Sequence[str], seed: int, bar: Bar
) -> Iterator[bool]:
    """Every method with one seed; after each, whether it was run now. One that fails is a row that says why."""
    data = take(source, protocol.classes, protocol.images)
    teacher = network(protocol.teacher, protocol.classes)
    teacher.load_state_dict(load_file(folder / "teacher.safetensors"))
    remembered = Remembered(teacher.eval())
    for method in methods:
        file = folder / f"{method.replace(' ', '-')}.{seed}.json"
        is_new = not file.exists()
        if is_new:
            found = one(protocol, data, remembered, method, seed)
            write_json(file, {"method": method, "seed": seed, "when": now(), **found})
        bar.step(f"{method}, seed {seed}")
        yield is_new


def one(protocol: Protocol, data: Decoded, teacher: Parts, method: str, seed: int) -> dict[str, Any]:
    """The student after the last epoch: accuracy on the test split, seconds; or the error."""
    started = time.monotonic()
    torch.manual_seed(seed)
    student = network(protocol.student, protocol.classes)
    used = USED.get(method, {"loss": [{"name": method}]})
    recipe = Distill.model_validate({**protocol.training(protocol.epochs, seed), **used})
    try:
        with tempfile.TemporaryDirectory() as scratch:
            scheme = offline(Setup(student, student, [teacher.like], data, recipe, method, Path(scratch)))
            scheme.guides[0].teacher = teacher
            run = loop.Run(scheme, data, recipe.training, Path(scratch) / "run.pt")
            for epoch in range(recipe.epochs):
                run.epoch(epoch, method)
    except (Refusal, RuntimeError, ValueError) as error:
        return {"error": first_line(error), "seconds": time.monotonic() - started}
    seconds = time.monotonic() - started
    return {"accuracy": accuracy(student, data), "loss": run.history.loss[-1], "seconds": seconds}


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.*.json"))]


if __name__ == "__main__":
    typer.run(main)
