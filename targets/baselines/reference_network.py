"""The reference network: a yardstick that is timed beside a candidate, so that a budget survives a new machine.

Three 3×3 convolutions in float32, always the same for a size of image. A budget of 1.3 means 1.3 times its latency.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from targets.spec.contract import Contract

WIDTHS = (32, 32, 32)


def write_reference(contract: Contract, path: Path) -> Path:
    """The network as a file that takes what the candidate takes and answers as many classes."""
    generator = np.random.default_rng(0)
    nhwc = contract.layout == "nhwc-uint8"
    shape: list[int | str] = ["n", *contract.dims()]
    kind = TensorProto.UINT8 if nhwc else TensorProto.FLOAT
    nodes, tensors, last = [], [], contract.input
    if nhwc:
        nodes.append(helper.make_node("Transpose", [last], ["first"], perm=[0, 3, 1, 2]))
        nodes.append(helper.make_node("Cast", ["first"], ["cast"], to=TensorProto.FLOAT))
        last = "cast"
    for number, (before, after) in enumerate(pairwise((contract.decoding.shape[-1], *WIDTHS))):
        weight = generator.normal(0, (2 / (9 * before)) ** 0.5, (after, before, 3, 3))
        tensors.append(numpy_helper.from_array(weight.astype(np.float32), f"w{number}"))
        stride = [1, 1] if number else [2, 2]
        names = [last, f"w{number}"], [f"c{number}"]
        nodes.append(helper.make_node("Conv", *names, pads=[1, 1, 1, 1], strides=stride))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        last = f"r{number}"
    classes = max(2, len(contract.classes))
    head = generator.normal(0, 0.1, (WIDTHS[-1], classes)).astype(np.float32)
    tensors.append(numpy_helper.from_array(head, "head"))
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "head"], [contract.output]))
    image = helper.make_tensor_value_info(contract.input, kind, shape)
    answer = helper.make_tensor_value_info(contract.output, TensorProto.FLOAT, ["n", classes])
    graph = helper.make_graph(nodes, "reference", [image], [answer], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
