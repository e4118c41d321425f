"""What a profile says of threads and precision reaches the runtime itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from targets.runner.backends import lite, ort, ov

Network = Callable[[str], Path]


@pytest.mark.parametrize("threads", [1, 2])
def test_onnx_runtime_has_the_profile_s_threads(threads: int) -> None:
    assert ort.session_options({"threads": threads}).intra_op_num_threads == threads


@pytest.mark.parametrize(("threads", "precision"), [(1, "native"), (2, "float32")])
def test_openvino_has_the_profile_s_threads_and_float32_where_that_is_asked(
    threads: int, precision: str, small_network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of float32 by the hint it is given: where a processor has no bf16, its own choice would be the same."""
    openvino = pytest.importorskip("openvino")
    given: dict[str, Any] = {}

    class Core(openvino.Core):  # type: ignore[misc]
        def compile_model(self, model: str, device: str, settings: dict[str, Any]) -> Any:
            given.update(settings)
            return super().compile_model(model, device, settings)

    monkeypatch.setattr(openvino, "Core", Core)
    plan = ov.compiled(str(small_network("nchw-float32")), {"threads": threads, "precision": precision})
    assert plan.get_property("INFERENCE_NUM_THREADS") == given["INFERENCE_NUM_THREADS"] == threads
    assert given.get("INFERENCE_PRECISION_HINT") == ("f32" if precision == "float32" else None)


def test_litert_has_the_profile_s_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    class Interpreter:
        def __init__(self, engine: str, num_threads: int) -> None:
            given.append((engine, num_threads))

        def allocate_tensors(self) -> None:
            given.append("allocated")

    package, module = ModuleType("ai_edge_litert"), ModuleType("ai_edge_litert.interpreter")
    module.Interpreter = Interpreter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ai_edge_litert", package)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    lite.interpreter("a.tflite", {"threads": 3})
    assert given == [("a.tflite", 3), "allocated"]
