"""decode: a set of images becomes uint8 arrays on disk, split once for good.

Out: ``images.npy`` (N, H, W, C) uint8 in RGB or grey, ``labels.npy`` (N, ...) of what the task says is true of
each, ``split.npy`` (N,) with 0 train,
1 validation, 2 test, and ``data.json``. Later stages map the arrays into memory: a folder of any size fits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.catalogue import DATASETS, OTHER, Defaults, Images
from pipeline.data.decoded import TEST, TRAIN, VALIDATION, Facts, of_channels
from pipeline.engine.job import Job, code_folder, code_of, with_files
from pipeline.models.pretrained import how_tested
from pipeline.tasks import LABEL_SETS
from pipeline.user_code import load_factory, only_reading
from targets.decoding import decode_files
from targets.errors import Refusal
from targets.image_folder import Decoding, LazyImages, save_images
from targets.progress import say, track


def run(job: Job) -> None:
    settings = job.settings
    labels = LABEL_SETS[settings["task"]]
    source, defaults = choose(settings, job.inputs)
    chosen = {name: settings[name] for name in ("flip", "test") if settings[name] is not None}
    decoding = decoding_of(settings, defaults)
    check(source)
    labels.check(source)
    split = split_images(
        source,
        labels.groups(source),
        chosen.get("test", defaults.test),
        settings["validation"],
        np.random.default_rng(settings["seed"]),
    )
    if isinstance(source.images, LazyImages):
        decode_files(source.images.paths, decoding, job.scratch / "images.npy", "decode")
        (job.scratch / "images.npy").replace(job.out / "images.npy")
    else:
        save_images(track(source.images, "decode"), len(source.labels), decoding, job.out / "images.npy")
    np.save(job.out / "labels.npy", source.labels)
    np.save(job.out / "split.npy", split)
    mean, std = (of_channels(values, decoding.shape[-1]) for values in (defaults.mean, defaults.std))
    facts = Facts(source.classes, decoding, chosen.get("flip", defaults.flip), mean, std, settings["task"])
    (job.out / "data.json").write_text(json.dumps(asdict(facts)))


def decoding_of(settings: Mapping[str, Any], defaults: Defaults) -> Decoding:
    """What a recipe says of how images are decoded, over how its teacher's weights were tested, over the defaults.

    Raises Refusal.
    """
    names = ("size", "channels", "resize", "interpolation")
    chosen = {name: settings[name] for name in names if settings[name] is not None}
    weights = settings.get("weights") or {}
    tested = how_tested(**weights) if weights else None
    if tested is None:
        return Decoding.of({"size": (defaults.size, defaults.size)} | chosen)
    sized = tested.at(tuple(chosen["size"])) if "size" in chosen else tested
    decoding = Decoding.of(vars(sized) | chosen)
    say(f"data: {decoding}, as {weights['network']}'s weights were tested")
    return decoding


def choose(settings: dict[str, Any], inputs: dict[str, Path]) -> tuple[Images, Defaults]:
    if settings["name"] is not None:
        chosen = DATASETS[settings["name"]]
        return chosen.load(), chosen.defaults
    if "folder" in inputs:
        return LABEL_SETS[settings["task"]].folder(inputs["folder"]), OTHER
    files = code_of(inputs)
    with only_reading({**files, **inputs}, code_folder(files), "data"):
        factory = load_factory(settings["factory"], code_folder(files), "data.factory")
        made = factory(**with_files(settings["arguments"], inputs))
    if not isinstance(made, Images):
        kind = type(made).__name__
        raise Refusal(f"data.factory: {settings['factory']} gave {kind}; return pipeline.data.Images")
    return made, OTHER


def check(source: Images) -> None:
    n = len(source.images)
    if len(source.labels) != n:
        raise Refusal(f"data: {n} images but {len(source.labels)} labels")
    if not n:
        raise Refusal("data: no images")
    first = source.images[0]
    if not hasattr(first, "mode") and (
        first.dtype != np.uint8 or first.ndim != 3 or first.shape[2] not in (1, 3)
    ):
        raise Refusal("data: images are not uint8 (H, W, 3) in RGB or (H, W, 1)")


def split_images(
    source: Images,
    groups: NDArray[np.int64],
    test: float | None,
    validation: float,
    generator: np.random.Generator,
) -> NDArray[np.int8]:
    """Stratified: every group (of a class) gives the same share, and at least one image, to each split."""
    split = np.full(len(source.labels), TRAIN, dtype=np.int8)
    if source.test is not None:
        split[source.test] = TEST
    for group in np.unique(groups):
        rest = generator.permutation(np.flatnonzero((groups == group) & (split == TRAIN)))
        if source.test is None:
            assert test is not None, "a set without a test split has a share"
            cut = min(len(rest) - 2, max(1, round(test * len(rest))))
            split[rest[:cut]], rest = TEST, rest[cut:]
        split[rest[: min(len(rest) - 1, max(1, round(validation * len(rest))))]] = VALIDATION
    return split
