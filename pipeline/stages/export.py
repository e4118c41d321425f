"""export: a checkpoint becomes one file with its normalisation inside, for the runtimes.

Out: ``model.onnx`` (input ``images``, output ``logits``, any batch, its contract written on it) or ``model.tflite``
(one image at a time), and ``export.json``. The file is compared with torch on validation images before it leaves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import fx, nn

from pipeline.artifacts import checkpoint, onnx_file, tflite_file
from pipeline.artifacts.comparison import compare
from pipeline.artifacts.onnx_file import Deployed, contract_for
from pipeline.data import decoded
from pipeline.engine.job import Job
from pipeline.engine.store import write_json
from pipeline.quantization.grid import convert
from targets.spec.contract import Contract


def run(job: Job) -> None:
    settings, kind = job.settings, job.settings["format"]
    model = checkpoint.load(job.parents["checkpoint"])
    int8 = isinstance(model, fx.GraphModule)
    if isinstance(model, fx.GraphModule):
        model = convert(model, fold=kind == "onnx")
    deployed = Deployed(model.eval(), settings["layout"])
    data = decoded.read(job.parents["data"])
    contract = contract_for(settings["layout"], data.facts)
    path = job.out / f"model.{kind}"
    FORMATS[kind](deployed, contract, int8, settings, path)
    difference = compare(deployed, path, contract, data, "int8" if int8 else "float")
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
