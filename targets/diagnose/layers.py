"""layers: where a device's answers part from this machine's, tensor by tensor through one ONNX file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from targets.convert.graph import with_outputs
from targets.devices.base import Local
from targets.devices.connect import open_device
from targets.errors import Unmeasurable
from targets.gate.gate import Given, asked
from targets.measuring.bench import Bench
from targets.measuring.candidate import Candidate
from targets.runner.backends import REFERENCE, backend
from targets.runner.backends.ort import HEAVY

IMAGES = 16
INT8 = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Parting:
    """One tensor on both machines: an int8 one in steps of its grid, a float one in its own unit."""

    name: str
    values: int
    apart: int
    largest: float
    reach: float
    int8: bool

    @property
    def differs(self) -> bool:
        """Rounding aside: float sums come in another order on another processor."""
        return self.largest > (0 if self.int8 else 1e-4 * max(self.reach, 1e-6))


def exposed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that also answers what flows: every quantized tensor, or each layer's output where there is none.

    The grids stay between the layers, so a runtime fuses them as in the file itself.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = model.graph.node
    grids = [node for node in nodes if node.op_type == "QuantizeLinear" and node.input[0] not in constants]
    shown = grids or [node for node in nodes if node.op_type in HEAVY]
    return with_outputs(onnx.shape_inference.infer_shapes(model), [node.output[0] for node in shown])


def layers(given: Given) -> list[Parting]:
    """Each tensor of a few images, as the device computes it and as ONNX Runtime does here, in the file's order."""
    if given.profile.format != "onnx" or not backend(given.profile.backend).shows_tensors:
        raise Unmeasurable(f"{given.profile.name}: its runtime shows no tensors on the way, only answers")
    with asked(given) as ask, open_device(given.device) as device:
        few, opened = ask.work / "few.npy", ask.work / "opened.onnx"
        np.save(few, np.load(ask.images, mmap_mode="r")[:IMAGES])
        model = exposed(onnx.load(given.model))
        onnx.save(model, opened)
        bench = Bench(device, given.profile, ask.contract, few, ask.work)
        there = traced(bench, opened)
        with tempfile.TemporaryDirectory(prefix="retort-") as folder:
            profile = given.profile.model_copy(update={"backend": REFERENCE})
            here = traced(Bench(Local(Path(folder)), profile, ask.contract, few, ask.work), opened)
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name in kinds]
    return [parting(name, there[name], here[name], kinds[name] in INT8) for name in names]


def traced(bench: Bench, model: Path) -> Tensors:
    bench.device.put(model, "opened.onnx")
    options = bench.options(Candidate("opened", model, "float32"))
    bench.do("trace", model="opened.onnx", engine="opened.engine", answers="tensors.npz", options=options)
    bench.device.get("tensors.npz", bench.work / "tensors.npz")
    with np.load(bench.work / "tensors.npz") as kept:
        return {name: kept[name].astype(np.float32) for name in kept}


def parting(name: str, there: NDArray[np.float32], here: NDArray[np.float32], int8: bool) -> Parting:
    numbers = np.isfinite(there) & np.isfinite(here)
    apart = np.where(
        numbers, np.abs(there - here), np.float32(np.inf)
    )  # what is no number agrees with nothing
    return Parting(
        name, apart.size, int((apart > 0).sum()), float(apart.max()), float(np.abs(here).max()), int8
    )


def told(found: list[Parting]) -> Iterator[str]:
    """A line a tensor; the first that differs is marked."""
    width = max(len(one.name) for one in found)
    first = next((one for one in found if one.differs), None)
    yield f"{'tensor':<{width}}  {'values':>9}  {'apart':>8}  {'largest':>9}  {'reach':>9}"
    for one in found:
        unit = "steps" if one.int8 else ""
        row = f"{one.name:<{width}}  {one.values:>9,}  {one.apart / one.values:>8.3%}  {one.largest:>9.3g}"
        mark = "  <- they part here" if one is first else ""
        yield f"{row}  {one.reach:>9.3g} {unit}{mark}".rstrip()
    if first is None:
        yield f"They part nowhere: {len(found)} tensors of {IMAGES} images at most, rounding aside."
