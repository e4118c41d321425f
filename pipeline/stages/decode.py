"""decode: a set of images becomes uint8 arrays on disk, split once for good.

Out: ``images.npy`` (N, size, size, 3) uint8 RGB, ``labels.npy`` (N,) int64, ``split.npy`` (N,) with 0 train,
1 validation, 2 test, and ``data.json``. Later stages map the arrays into memory: a folder of any size fits.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.catalogue import DATASETS, OTHER, Defaults, Images, folder
from pipeline.data.decoded import TEST, TRAIN, VALIDATION, Facts
from pipeline.engine.job import Job, code_folder, code_of, with_files
from pipeline.user_code import load_factory, only_reading
from targets.errors import Refusal
from targets.image_folder import save_images
from targets.progress import track


def run(job: Job) -> None:
    settings = job.settings
    source, defaults = choose(settings, job.inputs)
    chosen = {name: settings[name] for name in ("size", "flip", "test") if settings[name] is not None}
    size = chosen.get("size", defaults.size)
    check(source)
    split = split_images(
        source,
        chosen.get("test", defaults.test),
        settings["validation"],
        np.random.default_rng(settings["seed"]),
    )
    save_images(track(source.images, "decode"), len(source.labels), size, job.out / "images.npy")
    np.save(job.out / "labels.npy", source.labels)
    np.save(job.out / "split.npy", split)
    facts = Facts(source.classes, size, chosen.get("flip", defaults.flip), defaults.mean, defaults.std)
    (job.out / "data.json").write_text(json.dumps(asdict(facts)))


def choose(settings: dict[str, Any], inputs: dict[str, Path]) -> tuple[Images, Defaults]:
    if settings["name"] is not None:
        chosen = DATASETS[settings["name"]]
        return chosen.load(), chosen.defaults
    if "folder" in inputs:
        return folder(inputs["folder"]), OTHER
    files = code_of(inputs)
    with only_reading({**files, **inputs}, code_folder(files), "data"):
        factory = load_factory(settings["factory"], code_folder(files), "data.factory")
        made = factory(**with_files(settings["arguments"], inputs))
    if not isinstance(made, Images):
        kind = type(made).__name__
        raise Refusal(f"data.factory: {settings['factory']} gave {kind}; return pipeline.data.Images")
    return made, OTHER


def check(source: Images) -> None:
    n, classes = len(source.images), len(source.classes)
    if len(source.labels) != n:
        raise Refusal(f"data: {n} images but {len(source.labels)} labels")
    if not n:
        raise Refusal("data: no images")
    first = source.images[0]
    if not hasattr(first, "mode") and (first.dtype != np.uint8 or first.ndim != 3 or first.shape[2] != 3):
        raise Refusal("data: images are not uint8 RGB")
    if source.labels.min() < 0 or source.labels.max() >= classes:
        raise Refusal(f"data: labels run to {source.labels.max()} but there are {classes} classes")
    free = source.labels if source.test is None else source.labels[~source.test]
    need = 3 if source.test is None else 2
    counts = np.bincount(free, minlength=classes)
    if counts.min() < need:
        few = source.classes[int(counts.argmin())]
        raise Refusal(
            f"data: class '{few}' has {counts.min()} images; {need} are needed (train, validation, test)"
        )


def split_images(
    source: Images, test: float | None, validation: float, generator: np.random.Generator
) -> NDArray[np.int8]:
    """Stratified: every class gives the same share, and at least one image, to each split."""
    split = np.full(len(source.labels), TRAIN, dtype=np.int8)
    if source.test is not None:
        split[source.test] = TEST
    for label in range(len(source.classes)):
        rest = generator.permutation(np.flatnonzero((source.labels == label) & (split == TRAIN)))
        if source.test is None:
            assert test is not None, "a set without a test split has a share"
            cut = min(len(rest) - 2, max(1, round(test * len(rest))))
            split[rest[:cut]], rest = TEST, rest[cut:]
        split[rest[: min(len(rest) - 1, max(1, round(validation * len(rest))))]] = VALIDATION
    return split
