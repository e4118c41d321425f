"""The backends: what Retort needs of a runtime, one object for each.

A backend is a module of this folder that defines ``BACKEND``, a ``Runtime``; a line of ``BACKENDS`` names the module.
Everything else asks the object what it can and never compares its name. A vendor's package is imported inside the
verbs, when the backend is chosen; the syntax stays at Python 3.8.
"""

from __future__ import annotations

import importlib
import os
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Literal, Optional, Tuple

import numpy as np

Arrays = Dict[str, "np.ndarray[Any, Any]"]
Session = Callable[[Arrays], Arrays]  # names to host arrays; it blocks, and gives fresh arrays each time
Precision = Literal["float32", "native", "int8"]  # native is the runtime's own preferred float


@dataclass(frozen=True)
class PhoneTool:
    """A runtime's own timing program for a phone: its words, and where the median stands in what it prints."""

    program: str
    words: Callable[[str, int, float], List[str]]  # of a model's file, threads, seconds
    median: str
    unit: float  # of its median, in seconds

    def seconds(self, printed: str) -> float | None:
        """The median of a call; of several such lines the last, which comes after the warm-up."""
        found = re.findall(self.median, printed, re.MULTILINE)
        return float(found[-1]) * self.unit if found else None


@dataclass(frozen=True)
class Runtime:
    """What a backend can, and its verbs."""

    name: str
    files: Tuple[str, ...]  # the formats that it takes
    precisions: Tuple[Precision, ...]
    missing: Callable[[], Optional[str]]  # why it cannot run here, and the mend; None when it can
    # (model, options, engine): make what is loaded from a model's file; facts about it
    build: Callable[[str, Dict[str, Any], str], Dict[str, Any]]
    load: Callable[[str, Dict[str, Any]], Session]  # (engine, options)
    # (engine, shapes): the figures of the vendor's own timing tool, where there is one
    vendor: Optional[Callable[[str, str], Dict[str, Any]]] = None
    lowering: str = "everywhere"  # how its file is derived: an entry of targets.convert.target_file
    options: Tuple[str, ...] = ()  # keys of the profile that its verbs read, beside threads and batch
    builds_there: bool = False  # an engine fits the device that built it alone
    shows_tensors: bool = False  # a file may name any tensor on the way as an output
    fuses_for_arm: bool = False  # its fusions on Arm can be done on another processor, to see the operators
    phone: Optional[PhoneTool] = None


BACKENDS = {
    "onnxruntime": "ort",
    "openvino": "ov",
    "tensorrt": "trt",
    "litert": "lite",
}
REFERENCE = "onnxruntime"  # a device's answers are compared with its, on the machine that measures
OWN: Dict[str, str] = {}  # the files of backends that lie elsewhere; they are sent along


def backend(name: str) -> Runtime:
    found: Runtime = importlib.import_module("." + BACKENDS[name], __package__).BACKEND
    return found


def register(name: str, file: str) -> None:
    """Add a backend whose file, written as those of this folder, lies elsewhere."""
    folder, module = os.path.split(os.path.abspath(file))
    BACKENDS[name], OWN[name] = os.path.splitext(module)[0], file
    __path__.append(folder)
