"""doctor: each runtime does a real computation here and is compared with ONNX's own reference."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from targets.devices.base import backend_job
from targets.devices.connect import open_device
from targets.errors import FAILED, PASSED, UNDECIDED, Refusal
from targets.runner.backends import BACKENDS, backend
from targets.spec.contract import Contract

SIZE, CLASSES, IMAGES = 8, 4, 6
TOLERANCE = 1e-4
OPTIONS = {"threads": 1, "batch": 2, "precision": "float32"}


@dataclass(frozen=True)
class Finding:
    """What one check came to; ``ok`` is None where the thing is not installed."""

    name: str
    ok: bool | None
    text: str


def small_network() -> onnx.ModelProto:
    """Convolution, ReLU, global pool and a linear layer, with fixed random weights."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(8, 3, 3, 3)),
        "b": random.normal(size=8),
        "v": random.normal(size=(8, CLASSES)),
        "c": random.normal(size=CLASSES),
    }
    nodes = [
        helper.make_node("Conv", ["images", "w", "b"], ["x"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("GlobalAveragePool", ["y"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "v", "c"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "doctor",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def examine_backend(name: str) -> Finding:
    """Run the small network through the runner and compare."""
    proto = small_network()
    contract = Contract("nchw-float32", (SIZE, SIZE), ())
    images = np.random.default_rng(1).integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    (expected,) = ReferenceEvaluator(proto).run(None, {"images": contract.prepare(images)})
    with tempfile.TemporaryDirectory(prefix="retort-") as folder, open_device("local") as device:
        model, asked, answers = (Path(folder) / part for part in ("m.onnx", "i.npy", "a.npy"))
        onnx.save(proto, model)
        np.save(asked, images)
        device.put(model, "m.onnx")
        device.put(asked, "i.npy")
        job = {**backend_job(device, name), "options": OPTIONS, "images": "i.npy", "feed": contract.feed()}
        try:
            device.run({**job, "do": "build", "model": "m.onnx", "engine": "m.engine"})
            device.run({**job, "do": "answer", "engine": "m.engine", "answers": "a.npy"})
        except Refusal as refusal:
            return Finding(name, None, str(refusal))
        device.get("a.npy", answers)
        difference = float(np.abs(np.load(answers) - expected).max())
    text = f"{IMAGES} images, largest difference from the reference {difference:.1e}"
    return Finding(name, difference <= TOLERANCE, text)


def examine_all() -> tuple[list[Finding], int]:
    """Of each runtime that takes ONNX files, and the exit status: wrong answers fail, no runtime is undecided."""
    findings = [examine_backend(name) for name in BACKENDS if "onnx" in backend(name).files]
    if any(finding.ok is False for finding in findings):
        return findings, FAILED
    return findings, PASSED if any(finding.ok for finding in findings) else UNDECIDED
