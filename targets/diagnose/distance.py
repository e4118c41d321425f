"""How far each tensor of an int8 file is from the float file's, on the target's own runtime: where the loss begins.

The distance is the ratio of signal to quantization noise in decibels, 10·log₁₀(Σx² / Σ(x − x̂)²): 20 dB are an error
of a tenth of the signal, 0 dB one as large as the signal. Noise adds up from layer to layer, so the first tensor that
falls below the mark says where to look.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from targets.convert.graph import Graph, with_outputs
from targets.convert.grid import STEPS
from targets.decoding import decode_files
from targets.devices.connect import open_device
from targets.diagnose.explain import Explanation, in_place, of_grid, prepared
from targets.diagnose.layers import Tensors, exposed, traced
from targets.diagnose.troubles import troubles
from targets.errors import Refusal, Unmeasurable
from targets.gate.gate import Given
from targets.measuring.bench import Bench
from targets.onnx_file import load
from targets.progress import track
from targets.quantize.calibrate import histograms, patiently, session
from targets.quantize.exchange import exchange
from targets.quantize.images import any_images, spread
from targets.runner.backends import backend
from targets.runner.images import Images
from targets.spec.contract import Contract, contract_of

CALIBRATION, ASKED = 100, 8  # images that set the grid, and of these so many that are compared
BAD = 10.0  # dB: the error has over a tenth of the signal's power


@dataclass(frozen=True)
class Distance:
    """Of the tensor that a node gives; ``db`` is infinite where the two are equal."""

    node: str
    kind: str
    db: float


def distances(given: Given) -> tuple[Explanation, list[Distance]]:
    """What runs in int8 of a file quantized with images, and how far each of its tensors is from float.

    Raises Refusal for a file that cannot be quantized, Unmeasurable for a runtime that shows no tensors.
    """
    if given.profile.format != "onnx" or not backend(given.profile.backend).shows_tensors:
        raise Unmeasurable(f"{given.profile.name}: its runtime shows no tensors on the way, only answers")
    model = load(given.model)
    contract = taken(model, given)
    float_file, names = prepared(model, str(given.model))
    with tempfile.TemporaryDirectory(prefix="retort-") as folder, open_device(given.device) as device:
        work = Path(folder)
        images = decoded(given.images, contract, work / "images.npy")
        found = histograms(float_file, names, one_by_one(images, len(images), "calibrate"), contract)
        grid_file = exchange(float_file, {name: one.scale(STEPS) for name, one in found.items()})
        np.save(work / "few.npy", np.load(work / "images.npy", mmap_mode="r")[:ASKED])
        bench = Bench(device, given.profile, contract, work / "few.npy", work)
        opened = exposed(in_place(grid_file, given.profile, bench.environment["cpu"]["features"]).model)
        onnx.save(opened, work / "opened.onnx")
        int8 = traced(bench, work / "opened.onnx")
        pairs = paired(float_file, opened)
        floats = answered(
            float_file, sorted(set(pairs.values())), one_by_one(images, ASKED, "compare"), contract
        )
    explained = replace(of_grid(grid_file, given.profile), troubles=troubles(model, given.profile))
    return explained, list(apart(float_file, opened, pairs, int8, floats))


def taken(model: onnx.ModelProto, given: Given) -> Contract:
    """Raises Refusal for a file that takes no images."""
    try:
        return contract_of(model, str(given.model), given.said)
    except Refusal as refusal:
        raise Refusal(f"{refusal}; or leave --images out: the file alone is explained") from None


def decoded(folder: Path, contract: Contract, to: Path) -> Images:
    """Images of a folder, or of its class folders, evenly chosen. Raises Refusal for too few."""
    paths, _ = any_images(folder)
    if len(paths) < ASKED:
        raise Refusal(f"{folder}: {len(paths)} images; at least {ASKED} are needed to set a grid")
    chosen = [paths[index] for index in spread(len(paths), min(CALIBRATION, len(paths)))]
    decode_files(chosen, contract.decoding, to, "images")
    return Images(str(to), contract.feed())


def one_by_one(images: Images, count: int, what: str) -> Iterator[NDArray[np.float32]]:
    return (images.batch(index, 1) for index in track(range(min(count, len(images))), what))


def answered(
    model: onnx.ModelProto, names: Sequence[str], fed: Iterator[NDArray[np.float32]], contract: Contract
) -> Tensors:
    """Named tensors of the float file, an image after the other."""
    run = session(with_outputs(model, names))
    rows = [dict(zip(names, patiently(run, names, {contract.input: image}), strict=True)) for image in fed]
    return {name: np.concatenate([row[name] for row in rows]) for name in names}


def paired(float_file: onnx.ModelProto, opened: onnx.ModelProto) -> dict[str, str]:
    """Each shown tensor of the int8 file, and that of the float file which it stands for.

    Of a convolution whose ReLU the bytes do is shown what the ReLU gives. Tensors of rewrites have no counterpart.
    """
    graph, makers = Graph(float_file), {name: node for node in opened.graph.node for name in node.output}
    found = {}
    for value in opened.graph.output:
        node = makers[value.name]
        while node.op_type in ("QuantizeLinear", "Clip") and node.input[0] in makers:
            node = makers[node.input[0]]
        name = node.output[0]
        readers = graph.readers(name)
        if value.name != name and len(readers) == 1 and readers[0].op_type in ("Relu", "Clip"):
            name = name if readers[0].output[0] in makers else readers[0].output[0]
        if name in graph.makers:
            found[value.name] = name
    return found


def apart(
    float_file: onnx.ModelProto,
    opened: onnx.ModelProto,
    pairs: dict[str, str],
    int8: Tensors,
    floats: Tensors,
) -> Iterator[Distance]:
    """The distances in the float file's given."""
    read, makers = Graph(opened), {name: node for node in float_file.graph.node for name in node.output}
    order = {name: place for place, name in enumerate(makers)}
    for shown, name in sorted(pairs.items(), key=lambda pair: order[pair[1]]):
        values = int8[shown].astype(np.float64)
        if shown != name:
            node = read.makers[shown]
            while node.op_type != "QuantizeLinear":
                node = read.makers[node.input[0]]
            scale, zero = read.array(node.input[1]), read.array(node.input[2])
            assert scale is not None and zero is not None, "the file was made here"
            values = (values - float(zero)) * float(scale)
        yield Distance(makers[name].name, makers[name].op_type, decibels(floats[name], values))


def decibels(expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """Of two arrays of one shape; noise of nothing is infinite, a signal of nothing under noise minus infinite."""
    noise = float(np.square(expected.astype(np.float64) - found).sum())
    signal = float(np.square(expected.astype(np.float64)).sum())
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def first_bad(found: Sequence[Distance]) -> Distance | None:
    return next((one for one in found if not one.db >= BAD), None)
