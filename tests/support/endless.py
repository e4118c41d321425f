"""A network whose answer never comes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from targets.spec.contract import Contract, write_contract


def endless(path: Path) -> None:
    """A network that can be built, and whose first answer never comes."""
    value = lambda name, kind, *shape: helper.make_tensor_value_info(name, kind, list(shape))
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            value("turn", TensorProto.INT64),
            value("go", TensorProto.BOOL),
            value("x", TensorProto.FLOAT, "n", 5),
        ],
        [value("on", TensorProto.BOOL), value("y", TensorProto.FLOAT, "n", 5)],
    )
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["start"]),
        helper.make_node("Loop", ["", "yes", "start"], ["logits"], body=body),
    ]
    constants = {"yes": np.array(True), "head": np.ones((3, 5), np.float32)}
    graph = helper.make_graph(
        nodes,
        "endless",
        [value("images", TensorProto.FLOAT, "n", 3, 8, 8)],
        [value("logits", TensorProto.FLOAT, "n", 5)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    write_contract(model, Contract("nchw-float32", (8, 8), tuple(f"kind{label}" for label in range(5))))
    onnx.save(model, path)
