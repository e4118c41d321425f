"""Which of the known faults a runtime on a device has: all graphs go there together, and their answers come back."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from targets.convert.mobile import on_arm
from targets.convert.tensorrt_lint import lint
from targets.devices.base import Device, backend_job
from targets.diagnose.corpus import CORPUS
from targets.diagnose.corpus.fault import Arrays, Fault
from targets.runner.backends import backend

OPTIONS = {"threads": 1, "batch": 1, "precision": "float32"}
State = Literal["here", "not here", "not taken"]


@dataclass(frozen=True)
class Known:
    """One fault asked of one runtime. ``not taken``: the runtime refuses the graph, which is not the fault itself."""

    name: str
    fault: Fault
    runtime: str
    state: State
    seen: str


def known_faults(device: Device, name: str, corpus: Mapping[str, Fault] = CORPUS) -> list[Known]:
    """The faults of a corpus that concern a runtime, as it computes them on a device. Raises Unmeasurable."""
    asked = {key: one for key, one in corpus.items() if one.look != "tensorrt"}
    asked = {key: one for key, one in asked.items() if name in one.runtimes or not one.runtimes}
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        work = Path(folder)
        fed = {f"{key}/{part}": array for key, one in asked.items() for part, array in one.inputs.items()}
        keep(work / "models.npz", {key: as_bytes(one.model) for key, one in asked.items()})
        keep(work / "inputs.npz", fed)
        for file in ("models.npz", "inputs.npz"):
            device.put(work / file, file)
        job = {"do": "cases", "models": "models.npz", "inputs": "inputs.npz", "answers": "cases.npz"}
        told = device.run({**backend_job(device, name), **job, "options": OPTIONS})
        device.get("cases.npz", work / "cases.npz")
        with np.load(work / "cases.npz") as kept:
            answers = dict(kept)
        arm = "asimd" in told["after"]["cpu"]["features"] and backend(name).fuses_for_arm
        return [judged(key, one, name, told, answers.get(key), arm) for key, one in asked.items()]


def as_bytes(model: onnx.ModelProto) -> NDArray[np.uint8]:
    return np.frombuffer(model.SerializeToString(), np.uint8)


def keep(path: Path, arrays: Arrays) -> None:
    np.savez(path, allow_pickle=False, **arrays)


def judged(key: str, fault: Fault, runtime: str, told: dict[str, Any], answer: Any, arm: bool) -> Known:
    raised = told["raised"].get(key)
    if raised is not None:
        return Known(key, fault, runtime, "here" if fault.refuses else "not taken", raised)
    if fault.look == "kernels":
        facts = fused_for_arm(fault.model) if arm else told["facts"][key]
        floats = facts.get("float_operators", [])
        said = f"in float: {', '.join(floats)}" if floats else "all in int8"
        return Known(key, fault, runtime, "here" if floats else "not here", said)
    expected = np.asarray(fault.answer())
    if answer.shape != expected.shape:
        said = f"a shape of {answer.shape}, where {expected.shape} is right"
        return Known(key, fault, runtime, "here", said)
    wide = answer.astype(np.float64)
    if np.allclose(wide, expected.astype(np.float64), rtol=0, atol=fault.tolerance, equal_nan=True):
        return Known(key, fault, runtime, "not here", "the right answer")
    off = np.abs(wide - expected).reshape(-1)
    place = int(np.nan_to_num(off, nan=np.inf).argmax())
    said = f"{wide.reshape(-1)[place]:.6g}, where {expected.reshape(-1)[place]:.6g} is right"
    return Known(key, fault, runtime, "here", said)


def fused_for_arm(model: onnx.ModelProto) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        onnx.save(model, Path(folder) / "case.onnx")
        return on_arm(Path(folder) / "case.onnx")


def linted(corpus: Mapping[str, Fault] = CORPUS) -> list[Known]:
    """TensorRT's faults, by the linter: here is what it would let pass."""
    found = []
    for name, fault in corpus.items():
        if fault.look == "tensorrt":
            findings = [one for one in lint(fault.model, fault.version) if one.rule == fault.rule]
            said = str(findings[0]) if findings else "the linter lets it pass"
            state: State = "not here" if findings else "here"
            found.append(Known(name, fault, f"tensorrt {fault.version}", state, said))
    return found
