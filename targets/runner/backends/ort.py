"""ONNX Runtime on the processor: an engine is the ONNX file itself, the kernels are chosen at load."""

from __future__ import annotations

import collections
import os
import shutil
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import Arrays, PhoneTool, Runtime, Session

if TYPE_CHECKING:
    from onnx import NodeProto
    from onnxruntime import SessionOptions

# Before it is imported: it would keep a number for the machine in the user's home and tell its vendor what it does.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# What an int8 kernel is called once ONNX Runtime has fused Q/DQ pairs into the operator between them.
INT8 = ("QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantize", "QGemm", "QAttention")
HEAVY = ("Conv", "Gemm", "MatMul")
SILENT = 4  # the log's level: errors come as exceptions, and would be printed twice


def missing() -> str | None:
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        return f"onnxruntime cannot be imported ({error}); pip install onnxruntime"
    return None


def version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def session_options(options: dict[str, Any]) -> SessionOptions:
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = options["threads"]
    chosen.inter_op_num_threads = 1
    chosen.log_severity_level = SILENT
    if options.get("exact"):  # each operator of the file by itself: no int8 kernel that could saturate
        chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return chosen


def build(model: str, options: dict[str, Any], engine: str) -> dict[str, Any]:
    """Copy the file; the facts are the operators that run after ONNX Runtime's own fusions."""
    shutil.copyfile(model, engine)
    if is_ort(engine):
        return {}  # fused when it was made
    try:
        import onnx
    except ImportError:
        return {}  # a device needs no onnx; the host that has it can tell the operators
    fused = onnx.load_from_string(optimized(model, "EXTENDED", session_options(options)))
    return counted(fused.graph.node)


def optimized(model: str | bytes, level: str, chosen: SessionOptions) -> bytes:
    """The ONNX file of a model as ONNX Runtime's passes up to a level leave it."""
    import onnxruntime

    chosen.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, "ORT_ENABLE_" + level)
    with tempfile.TemporaryDirectory() as folder:
        chosen.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        onnxruntime.InferenceSession(model, chosen, providers=["CPUExecutionProvider"])
        with open(chosen.optimized_model_filepath, "rb") as file:
            return file.read()


def counted(nodes: Iterable[NodeProto]) -> dict[str, Any]:
    """The facts of a graph whose fusions are done."""
    nodes = list(nodes)
    counts = collections.Counter(node.op_type for node in nodes)
    int8 = sum(n for name, n in counts.items() if name.startswith(INT8))
    floats = [node.name for node in nodes if node.op_type.replace("Fused", "") in HEAVY]
    return {"operators": dict(counts), "int8_operators": int8, "float_operators": floats}


def is_ort(engine: str) -> bool:
    """Whether a file is in ONNX Runtime's own format, as its first bytes say."""
    with open(engine, "rb") as file:
        return file.read(8)[4:] == b"ORTM"


def load(engine: str, options: dict[str, Any]) -> Session:
    import onnxruntime

    chosen = session_options(options)
    if is_ort(engine):
        chosen.add_session_config_entry("session.load_model_format", "ORT")
    session = onnxruntime.InferenceSession(engine, chosen, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, inputs)))

    return run


def perf_test(model: str, threads: int, seconds: float) -> list[str]:
    mode = ["-m", "duration", "-t", str(max(1, round(seconds)))]
    return [*mode, "-x", str(threads), "-y", "1", "-I", model, "/dev/null"]


BACKEND = Runtime(
    name="onnxruntime",
    files=("onnx", "ort"),
    precisions=("float32", "int8"),  # on a processor it has no other float
    missing=missing,
    build=build,
    load=load,
    lowering="kernels",
    shows_tensors=True,
    fuses_for_arm=True,
    # The line as performance_runner.h prints it (read).
    phone=PhoneTool("onnxruntime_perf_test", perf_test, r"^P50 Latency(?: is|:) ([\d.e+-]+) s", 1.0),
)
