"""doctor: each runtime does a real computation on a device and is compared with ONNX's own reference.

A runtime that answers the small network wrongly fails. The known faults of ``corpus`` do not: that a machine has them
is what Retort writes its files for; they are told with what is done about each.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from targets.devices.base import Device, backend_job
from targets.devices.connect import open_device
from targets.diagnose.known import Known, known_faults, linted
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


def examine_backend(name: str, device: Device) -> Finding:
    """Run the small network through the runner and compare."""
    proto = small_network()
    contract = Contract("nchw-float32", (SIZE, SIZE), ())
    images = np.random.default_rng(1).integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    (expected,) = ReferenceEvaluator(proto).run(None, {"images": contract.prepare(images)})
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
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


@dataclass(frozen=True)
class Examination:
    """What each runtime came to, which known faults each has, and the exit status."""

    findings: list[Finding]
    known: dict[str, list[Known]]  # by runtime, TensorRT's by the linter
    status: int


def examine_all(device: str = "local") -> Examination:
    """Each runtime that takes ONNX files: wrong answers fail, no runtime is undecided."""
    findings, known = [], dict[str, list[Known]]()
    for name in BACKENDS:
        if "onnx" in backend(name).files:
            with open_device(device) as place:  # one for each: files keep their names there
                findings.append(examine_backend(name, place))
            if findings[-1].ok is not None and not backend(name).builds_there:
                with open_device(device) as place:
                    known[name] = known_faults(place, name)
    known["tensorrt (it does not run here; what its linter lets pass)"] = linted()
    wrong, right = (any(one.ok is ok for one in findings) for ok in (False, True))
    return Examination(findings, known, FAILED if wrong else PASSED if right else UNDECIDED)
