"""Quantized graphs for the tests of the rewrite, and what they compute by onnx's reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from targets.convert.int8_file import placed
from targets.convert.rules import EVERYWHERE

SHAPE = (2, 4, 8, 8)
Floats = NDArray[np.float32]


class Net:
    """A graph under construction: each method adds nodes after a tensor and gives the new tensor's name."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.zero = self.constant(np.int8(0))

    def constant(self, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), f"constant{len(self.constants)}"))
        return self.constants[-1].name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        out = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=out, **attributes))
        return out

    def quantized(self, x: str, scale: float) -> str:
        step = self.constant(np.float32(scale))
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, step, self.zero), step, self.zero)

    def weights(self, *shape: int) -> str:
        values = self.generator.integers(-127, 128, shape).astype(np.int8)
        scales = self.generator.uniform(0.0005, 0.004, shape[0]).astype(np.float32)
        zeros = self.constant(np.zeros(shape[0], np.int8))
        return self.op("DequantizeLinear", self.constant(values), self.constant(scales), zeros, axis=0)

    def conv(self, x: str) -> str:
        channels = SHAPE[1]
        bias = self.constant(self.generator.normal(0, 0.2, channels).astype(np.float32))
        return self.op("Conv", x, self.weights(channels, channels, 3, 3), bias, pads=[1, 1, 1, 1])

    def clip(self, x: str, low: float) -> str:
        return self.op("Clip", x, self.constant(np.float32(low)), self.constant(np.float32(6)))

    def head(self, x: str, scale: float) -> str:
        pooled = self.op("Flatten", self.op("GlobalAveragePool", x))
        bias = self.constant(self.generator.normal(0, 0.2, 3).astype(np.float32))
        return self.op("Gemm", self.quantized(pooled, scale), self.weights(3, SHAPE[1]), bias, transB=1)

    def model(self, out: str, shape: list[Any]) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [out], ["logits"]))
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *SHAPE[1:]])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model


SIGNED, POSITIVE = ("conv", "add", "maxpool", "clip-signed"), ("relu", "clip", "relu-maxpool", "relu-add")


def network(steps: list[str], seed: int, scale: float = 0.05) -> onnx.ModelProto:
    """A quantized network whose every operator reads Q/DQ pairs; the steps that are known to be positive
    end in a quantizer of their own."""
    net = Net(seed)
    x = net.quantized("images", scale)
    for step in steps:
        if step == "conv":
            x = net.conv(x)
        elif step == "add":
            x = net.op("Add", x, net.quantized(net.conv(x), scale))
        elif step == "maxpool":
            x = net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        elif step == "clip-signed":
            x = net.clip(x, -1)
        elif step == "clip":
            x = net.clip(net.conv(x), 0)
        elif step.startswith("relu"):
            x = net.op("Relu", net.conv(x))
            if step == "relu-maxpool":
                x = net.op("MaxPool", net.quantized(x, scale), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            elif step == "relu-add":
                x = net.quantized(x, scale)
                x = net.op("Add", x, net.quantized(net.op("Relu", net.conv(x)), scale))
        x = net.quantized(x, scale)
    return net.model(net.head(x, scale), ["batch", 3])


def regridded(model: onnx.ModelProto, form: str) -> onnx.ModelProto:
    """The model in another form of bytes, with a pair on every tensor that had one."""
    return placed(model, EVERYWHERE, form).model


def images(seed: int) -> Floats:
    return np.random.default_rng(seed).normal(0, 3, SHAPE).astype(np.float32)


def everything(model: onnx.ModelProto, batch: Floats) -> dict[str, Any]:
    """Every tensor of the graph, by the reference evaluator."""
    results = ReferenceEvaluator(model).run(None, {"images": batch}, intermediate=True)
    assert isinstance(results, dict)
    return {name: value for name, value in results.items() if name}
