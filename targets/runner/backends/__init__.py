"""The runtimes: what a backend must offer, and which module offers it.

A backend is a module with these things; a vendor's package is imported inside them, when chosen:

``missing() -> str | None``          why it cannot run here, and the mend; None when it can
``build(model, options, engine)``    make what is loaded from a model's file; returns facts about it
``load(engine, options)``            a session
``session(inputs) -> outputs``       mappings of names to host arrays; blocking; fresh arrays each time
``vendor(engine, shapes)``           where the vendor has a timing tool of its own: its figures (optional)
``PRECISIONS``                       which of float32, native (its own preferred float) and int8 it offers
``FILES``                            the formats that it takes
"""

from __future__ import annotations

import importlib
from typing import Any, Callable, Dict, Literal

import numpy as np

Arrays = Dict[str, "np.ndarray[Any, Any]"]
Session = Callable[[Arrays], Arrays]
Precision = Literal["float32", "native", "int8"]

BACKENDS = {
    "onnxruntime": "ort",
    "openvino": "ov",
    "tensorrt": "trt",
    "litert": "lite",
}


class Backend:
    """What a backend's module offers, under its names."""

    def __init__(self, name: str) -> None:
        module = importlib.import_module(f".{BACKENDS[name]}", __package__)
        self.name = name
        self.precisions: tuple[Precision, ...] = module.PRECISIONS
        self.files: tuple[str, ...] = module.FILES
        self.missing: Callable[[], str | None] = module.missing
        self.build: Callable[[str, dict[str, Any], str], dict[str, Any]] = module.build
        self.load: Callable[[str, dict[str, Any]], Session] = module.load
        self.vendor: Callable[[str, str], dict[str, Any]] | None = getattr(module, "vendor", None)
