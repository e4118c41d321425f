"""quantize: a float ONNX file of anybody's becomes an int8 file for each target, measured and judged. No torch.

Part of the images sets the grid, the rest asks the questions. Where they lie in class folders their labels are known;
else a label is what the float file answers, so that every lost answer is one that int8 changed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from targets.baselines.baseline import comparisons, load
from targets.budgets.evidence import TestSet
from targets.errors import Refusal
from targets.gate.gate import check_classes
from targets.image_folder import SUFFIXES, LazyImages, class_folders, save_images
from targets.limits import Budgets
from targets.measuring.candidate import Candidate
from targets.measuring.measure import measure
from targets.progress import say, track
from targets.quantize.calibrate import answers, choose_steps, histograms
from targets.quantize.clean import cleaned
from targets.quantize.exchange import exchange
from targets.quantize.policy import rounded
from targets.report.table import compose, target_table, write_report
from targets.runner.__main__ import Images
from targets.spec.contract import Contract, infer_contract, read_contract
from targets.spec.profile import Profile
from targets.verdict import judge, settled

FEWEST = 8  # images of either part


@dataclass(frozen=True)
class Order:
    """A float file, images, the targets, and what a foreign file does not say of its input."""

    model: Path
    images: Path  # a folder of images, or of class folders of images
    profiles: Sequence[Profile]
    device: str = "local"
    calibration: int = 300
    keep_float: Sequence[str] = ()  # patterns of the names of nodes
    size: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """The file's input, the images that set the grid, those that ask the questions, and their labels if known."""

    model: onnx.ModelProto
    contract: Contract
    calibration: Path
    images: Path
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]


def quantize(order: Order, budgets: Budgets, out: Path, accept: bool = False) -> dict[str, Any]:
    """The report's table of one file on its targets; each target's int8 file lies in its folder of ``out``."""
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        work = Path(folder)
        prepared = prepare(order, work)
        int8 = work / "int8.onnx"
        onnx.save(quantized(prepared, order), int8)
        test_set = questions(prepared)
        candidates = [
            Candidate("float", order.model, "float32"),
            Candidate("int8", int8, "int8", method="ptq"),
        ]
        tables = []
        for profile in order.profiles:
            own = budgets.over(profile.budgets)
            others = comparisons(own, prepared.contract, None, work)
            enough = lambda so_far, own=own: settled(judge(so_far, own, test_set))
            place = prepared.contract, profile, order.device, prepared.images, out / profile.name
            found = measure(candidates, *place, others, enough)
            verdict = replace(judge(found, own, test_set), accept=accept)
            tables.append(target_table(profile, order.device, verdict, test_set, found))
    report = compose(str(order.model), test_set, [], tables)
    write_report(report, out)
    return report


def prepare(order: Order, work: Path) -> Prepared:
    """Raises Refusal where file and images do not fit, or where there are too few images."""
    model = load(order.model)
    contract = read_contract(model) or infer_contract(
        model, str(order.model), order.size, order.mean, order.std
    )
    paths, labels, classes = found_images(model, contract, order.images)
    chosen = spread(len(paths), min(order.calibration, len(paths) // 2))
    if len(chosen) < FEWEST:
        raise Refusal(
            f"{order.images}: {len(paths)} images; at least {2 * FEWEST} are needed to set a grid and judge it"
        )
    parts = {"calibration": chosen, "images": np.setdiff1d(np.arange(len(paths)), chosen)}
    files = {name: work / f"{name}.npy" for name in parts}
    for name, which in parts.items():
        images = track(LazyImages([paths[i] for i in which]), name)
        save_images(images, len(which), contract.size, files[name])
    kept = None if labels is None else labels[parts["images"]]
    return Prepared(model, contract, files["calibration"], files["images"], kept, classes)


def found_images(
    model: onnx.ModelProto, contract: Contract, folder: Path
) -> tuple[list[Path], NDArray[np.int64] | None, tuple[str, ...]]:
    """Images in class folders with their labels, or images of one folder without any."""
    flat = (
        sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if folder.is_dir()
        else []
    )
    if flat:
        return flat, None, ()
    paths, folders = class_folders(folder)
    classes = check_classes(model, contract, folders, folder)
    return paths, np.array([classes.index(path.parent.name) for path in paths]), classes


def spread(count: int, chosen: int) -> NDArray[np.int64]:
    """So many of ``count`` numbers, evenly apart."""
    return np.unique(np.linspace(0, count - 1, chosen).round().astype(np.int64))


def quantized(prepared: Prepared, order: Order) -> onnx.ModelProto:
    """The file that every target's is made of: weights in int8, a pair on every rounded tensor."""
    model = cleaned(of_size(prepared.model, prepared.contract), str(order.model))
    names = [str(value.name) for value in rounded(ir.from_proto(model).graph, order.keep_float)]
    if not names:
        raise Refusal(f"{order.model}: it has no convolution or linear layer that could be int8")
    feed = Images(str(prepared.calibration), prepared.contract.feed())
    found = histograms(model, names, singly(feed, "calibrate"), prepared.contract)
    way, steps = choose_steps(model, found, feed, prepared.contract)
    say(
        f"quantize: {len(names)} tensors rounded; cut off by {way}, which kept answers closest on held-back images"
    )
    made = exchange(model, steps)
    made.metadata_props.extend(one for one in prepared.model.metadata_props if one not in made.metadata_props)
    return made


def singly(feed: Images, what: str) -> Iterator[NDArray[Any]]:
    """Batches of one image, with a progress bar."""
    return (feed.batch(index, 1) for index in track(range(len(feed)), what))


def of_size(model: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    """A copy whose height and width are what the contract says, where the file leaves them free."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (value,) = (one for one in copy.graph.input if one.name == contract.input)
    for place in (2, 3) if contract.layout == "nchw-float32" else (1, 2):
        value.type.tensor_type.shape.dim[place].dim_value = contract.size
    del copy.graph.value_info[:]
    return copy


def questions(prepared: Prepared) -> TestSet:
    """The test images with their labels, or with what the float file answers."""
    if prepared.labels is not None:
        return TestSet(prepared.labels, prepared.classes, {})
    feed = Images(str(prepared.images), prepared.contract.feed())
    logits = answers(prepared.model, singly(feed, "float answers"), prepared.contract)
    names = prepared.contract.classes or tuple(str(number) for number in range(logits.shape[1]))
    return TestSet(logits.argmax(1), names, {})
