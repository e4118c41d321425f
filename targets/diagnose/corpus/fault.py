"""A known fault of a runtime or an exporter: a tiny graph, what it must answer, and what Retort does about it.

``answers``: the runtime computes the graph, and its answers are compared. ``kernels``: the graph's convolutions and
products are in int8 by their pairs, and those are counted that the runtime leaves in float. ``tensorrt``: nothing
runs; the linter must refuse the graph by a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

Arrays = dict[str, NDArray[Any]]
IR = 9


@dataclass(frozen=True)
class Fault:
    """``wrong``: what goes wrong. ``source``: the thread that says so, or where and with which versions it was found.

    ``expected``: the outputs by a restatement of their own; None: by ONNX's reference evaluator. ``apart``: why that
    evaluator answers something else, where it does.
    """

    wrong: str
    source: str
    remedy: str
    model: onnx.ModelProto
    inputs: Arrays = field(default_factory=dict)
    expected: Callable[[Arrays], NDArray[Any]] | None = None
    tolerance: float = 1e-4
    apart: str = ""
    look: Literal["answers", "kernels", "tensorrt"] = "answers"
    runtimes: tuple[str, ...] = ()  # that run the graph; empty: all of them
    refuses: bool = False  # the fault is that the runtime does not take the graph
    rule: str = ""  # of the linter
    version: str = "10.3"  # of TensorRT
    found: Callable[[onnx.NodeProto, int], bool] | None = (
        None  # whether a node of a user's file is such, by its opset
    )

    def answer(self) -> NDArray[Any]:
        """What the graph's only output must be."""
        if self.expected is not None:
            return self.expected(self.inputs)
        (found,) = ReferenceEvaluator(self.model).run(None, self.inputs)
        return np.asarray(found)


def graph(text: str, opset: int = 20, **constants: Any) -> onnx.ModelProto:
    """A model of ``(float[4] x) => (float[4] y) { y = Relu(x) }``; arrays by name become its constants."""
    made = parser.parse_graph(f"g {text}")
    for name, values in constants.items():
        made.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    for number, node in enumerate(made.node):
        node.name = f"{node.op_type}_{number}"
    entries = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=entries, ir_version=IR)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, with text as str."""
    for one in node.attribute:
        if one.name == name:
            value = helper.get_attribute_value(one)
            return value.decode() if isinstance(value, bytes) else value
    return default


def f32(*values: Any) -> NDArray[np.float32]:
    return np.array(values, np.float32)
