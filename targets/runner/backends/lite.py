"""LiteRT on the processor: an engine is the .tflite file itself, which takes one image at a time."""

from __future__ import annotations

import collections
import shutil
from typing import TYPE_CHECKING, Any

from . import Arrays, PhoneTool, Runtime, Session

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

CALLS = 20  # at least, in a process of its own timing program
HEAVY = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "TRANSPOSE_CONV")
# What moves numbers into the grid and out of it, or says who computes.
BESIDE = ("QUANTIZE", "DEQUANTIZE", "DELEGATE")


def missing() -> str | None:
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError as error:
        return f"LiteRT cannot be imported ({error}); pip install ai-edge-litert"
    return None


def interpreter(engine: str, options: dict[str, Any]) -> Interpreter:
    from ai_edge_litert.interpreter import Interpreter

    made = Interpreter(engine, num_threads=options["threads"])
    made.allocate_tensors()
    return made


def build(model: str, options: dict[str, Any], engine: str) -> dict[str, Any]:
    """Copy the file; the facts are its operators, int8 by the type that each gives."""
    shutil.copyfile(model, engine)
    made = interpreter(engine, options)
    types = {one["index"]: one["dtype"].__name__ for one in made.get_tensor_details()}
    operators = [one for one in made._get_ops_details() if one["op_name"] not in BESIDE]
    counts = collections.Counter(one["op_name"] for one in operators)
    int8 = [one for one in operators if types.get(one["outputs"][0]) == "int8"]
    floats = [one for one in operators if one not in int8 and one["op_name"] in HEAVY]
    names = ["{} {}".format(one["op_name"], one["index"]) for one in floats]
    return {"operators": dict(counts), "int8_operators": len(int8), "float_operators": names}


def load(engine: str, options: dict[str, Any]) -> Session:
    made = interpreter(engine, options)
    (signature,) = made.get_signature_list()
    signed = made.get_signature_runner(signature)
    inputs = {name: one["index"] for name, one in signed.get_input_details().items()}
    outputs = {name: one["index"] for name, one in signed.get_output_details().items()}

    def run(arrays: Arrays) -> Arrays:
        for name, index in inputs.items():
            made.set_tensor(index, arrays[name])
        made.invoke()
        return {name: made.get_tensor(index) for name, index in outputs.items()}

    return run


def benchmark_model(model: str, threads: int, seconds: float) -> list[str]:
    times = ["--min_secs=%.2f" % seconds, "--num_runs=%d" % CALLS, "--warmup_runs=5"]
    return ["--graph=" + model, "--num_threads=%d" % threads, *times]


BACKEND = Runtime(
    name="litert",
    files=("tflite",),
    precisions=("float32", "int8"),
    missing=missing,
    build=build,
    load=load,
    # The line as tensorflow's stats_calculator.h prints it (read); an older benchmark_model prints no median, and its
    # mean is no stand-in for one.
    phone=PhoneTool("benchmark_model", benchmark_model, r"^count=.*\bmedian=([\d.e+]+)", 1e-6),
)
