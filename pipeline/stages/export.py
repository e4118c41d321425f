"""export: a checkpoint becomes one file with its normalisation inside, for the runtimes.

Out: ``model.onnx`` (input ``images``, output ``logits``, any batch, its contract written on it) or ``model.tflite``
(one image at a time), and ``export.json``. The file is compared with torch on validation images before it leaves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from pipeline.artifacts import checkpoint, onnx_file, tflite_file
from pipeline.artifacts.onnx_file import Deployed
from pipeline.data import decoded
from pipeline.data.batches import plain_batches
from pipeline.data.decoded import VALIDATION, Decoded
from pipeline.engine.job import Job
from pipeline.engine.store import write_json
from pipeline.quantization.grid import convert
from targets.errors import Refusal
from targets.runner.backends import backend
from targets.spec.contract import Contract

COMPARED = 64
# Rounding to a grid of 127 steps may fall the other way in another kernel: a step or two of the logits.
TOLERANCE = {"float": 1e-4, "int8": 0.1}
READERS = {"onnx": "onnxruntime", "tflite": "litert"}


def run(job: Job) -> None:
    settings, kind = job.settings, job.settings["format"]
    described = checkpoint.read(job.parents["checkpoint"])
    model = checkpoint.load(job.parents["checkpoint"])
    int8 = isinstance(model, fx.GraphModule)
    if isinstance(model, fx.GraphModule):
        model = convert(model, fold=kind == "onnx")
    deployed = Deployed(model.eval(), settings["layout"])
    data = decoded.read(job.parents["data"])
    contract = Contract(settings["layout"], described.size, data.facts.classes)
    path = job.out / f"model.{kind}"
    FORMATS[kind](deployed, contract, int8, settings, path)
    difference = compare(deployed, path, contract, data, TOLERANCE["int8" if int8 else "float"])
    write_json(job.out / "export.json", {"int8": int8, "format": kind, "difference": difference})


def to_onnx(
    deployed: nn.Module, contract: Contract, int8: bool, settings: dict[str, Any], path: Path
) -> None:
    onnx_file.write(deployed, contract, settings["opset"], path)


def to_tflite(
    deployed: nn.Module, contract: Contract, int8: bool, settings: dict[str, Any], path: Path
) -> None:
    tflite_file.write(deployed, contract, int8, path)


FORMATS = {"onnx": to_onnx, "tflite": to_tflite}


def compare(
    deployed: nn.Module, path: Path, contract: Contract, data: Decoded, tolerance: float
) -> dict[str, Any]:
    """Torch and the file's own runtime on the same validation images. Raises Refusal when they part.

    What the file says is compared, operator by operator; int8 kernels that saturate are the targets' to judge.
    """
    which = data.part(VALIDATION)[:COMPARED]
    session = backend(READERS[path.suffix[1:]]).load(str(path), {"threads": 1, "exact": True})
    expected, found = [], []
    for batch in plain_batches(data, which, 1 if path.suffix == ".tflite" else 32):
        raw = contract.prepare(data.images[batch.indices.numpy()])
        with torch.no_grad():
            expected.append(deployed(torch.from_numpy(raw)).numpy())
        found.append(session({contract.input: raw})[contract.output])
    torch_says, file_says = np.concatenate(expected), np.concatenate(found)
    spread = float(np.abs(torch_says).max())
    largest = float(np.abs(torch_says - file_says).max())
    same = float((torch_says.argmax(1) == file_says.argmax(1)).mean())
    if largest > tolerance * max(spread, 1e-6):
        raise Refusal(f"export: {path.name} differs from torch by {largest:.3g} (logits reach {spread:.3g})")
    return {"images": len(which), "largest": largest, "logits_reach": spread, "same_answer": same}
