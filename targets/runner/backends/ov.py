"""OpenVINO on the processor: an engine is the ONNX file itself, kernels are chosen at load."""

from __future__ import annotations

import collections
import shutil
import sys
from typing import TYPE_CHECKING, Any

from . import Arrays, Runtime, Session

if TYPE_CHECKING:
    from openvino import CompiledModel

# It would keep a number for the user in ~/intel and tell its vendor of each use. Without it OpenVINO has a stub.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

KEYS = ("layerType", "runtimePrecision")
HEAVY = ("Convolution", "FullyConnected", "MatMul", "Deconvolution")


def missing() -> str | None:
    try:
        import openvino  # noqa: F401
    except ImportError as error:
        return f"openvino cannot be imported ({error}); pip install openvino"
    return None


def compiled(engine: str, options: dict[str, Any]) -> CompiledModel:
    import openvino

    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": options["threads"],
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    # Without the hint float layers run in what OpenVINO prefers here: bf16 on some processors.
    if options["precision"] == "float32":
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    return openvino.Core().compile_model(engine, "CPU", settings)


def build(model: str, options: dict[str, Any], engine: str) -> dict[str, Any]:
    """Copy the file; the facts are the kernels that OpenVINO's plug-in says it runs, with their precision."""
    shutil.copyfile(model, engine)
    plan = compiled(engine, options)
    kernels = []
    for node in plan.get_runtime_model().get_ordered_ops():
        info = {key: str(value.astype(str)) for key, value in node.get_rt_info().items() if key in KEYS}
        if len(info) == len(KEYS):
            kernels.append((info["layerType"], info["runtimePrecision"], node.get_friendly_name()))
    counts = collections.Counter(f"{kind} {precision}" for kind, precision, _ in kernels)
    heavy = [(precision, name) for kind, precision, name in kernels if kind in HEAVY]
    int8 = sum(precision in ("u8", "i8") for precision, _ in heavy)
    floats = [name for precision, name in heavy if precision not in ("u8", "i8")]
    return {"operators": dict(counts), "int8_operators": int8, "float_operators": floats}


def load(engine: str, options: dict[str, Any]) -> Session:
    plan = compiled(engine, options)
    request = plan.create_infer_request()
    names = [output.get_any_name() for output in plan.outputs]

    def run(inputs: Arrays) -> Arrays:
        found = request.infer(inputs)
        return {name: found[index].copy() for index, name in enumerate(names)}

    return run


BACKEND = Runtime(
    name="openvino",
    files=("onnx",),
    precisions=("float32", "native", "int8"),
    missing=missing,
    build=build,
    load=load,
    lowering="openvino",
    shows_tensors=True,
)
