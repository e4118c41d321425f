"""An ONNX model as rules and passes read it: who makes a tensor, what is constant, types, shapes, Q/DQ nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, NodeProto, OperatorSetIdProto, TensorProto, helper, numpy_helper

from targets.errors import Refusal

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
OWN_DOMAIN = ("", "ai.onnx")  # two spellings of ONNX's own operators
# How a Constant node may hold numbers, and of which type; ``value`` is a tensor with its own.
CONSTANTS: dict[str, Any] = {"value": None, "value_float": np.float32, "value_floats": np.float32}
CONSTANTS |= {"value_int": np.int64, "value_ints": np.int64}
AXIS = 1  # what ONNX means by a Q/DQ without the attribute


@dataclass(frozen=True)
class Quantizer:
    """A QuantizeLinear or DequantizeLinear, and what is constant of what it reads."""

    node: NodeProto
    kind: int  # element type of its quantized side; 0 where nothing tells
    weight: bool  # its data goes back to a constant
    shape: list[int]  # of its data: 0 where a dimension is not fixed, empty where nothing is known
    scale: NDArray[Any] | None
    zero: NDArray[Any] | None
    axis: int | None  # as written

    @property
    def where(self) -> str:
        return named(self.node)

    @property
    def per_channel(self) -> bool:
        return self.scale is not None and self.scale.size > 1


class Graph:
    """One model, read once. Nodes are of all depths; constants are initializers and Constant nodes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.opset = model, opset_of(model).version
        graphs = list(every_graph(model.graph))
        self.nodes = [node for graph in graphs for node in graph.node]
        self.constants = {tensor.name: tensor for graph in graphs for tensor in graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and (value := constant(node)) is not None:
                self.constants[node.output[0]] = value
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.inputs = [value for value in model.graph.input if value.name not in self.constants]
        self.types = {name: tensor.data_type for name, tensor in self.constants.items()}
        self.shapes = {name: list(tensor.dims) for name, tensor in self.constants.items()}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        for known in (*inferred.value_info, *inferred.input, *inferred.output):
            kind = known.type.tensor_type
            self.types.setdefault(known.name, kind.elem_type)
            self.shapes.setdefault(known.name, [dim.dim_value for dim in kind.shape.dim])
        self.quantizers = [self.quantizer(node) for node in self.nodes if self.is_static(node)]

    def made_by(self, name: str) -> str:
        """The operator that makes a tensor; empty for inputs and initializers."""
        return self.makers[name].op_type if name in self.makers else ""

    def readers(self, name: str) -> list[NodeProto]:
        return [node for node in self.nodes if name in node.input]

    def is_static(self, node: NodeProto) -> bool:
        """A Q/DQ of ONNX's own that does not hang on a DynamicQuantizeLinear."""
        own = node.op_type in QUANTIZERS and node.domain in OWN_DOMAIN
        return own and self.made_by(node.input[0]) != "DynamicQuantizeLinear"

    def quantizer(self, node: NodeProto) -> Quantizer:
        data = node.input[0]
        source = self.makers[data].input[0] if self.made_by(data) == "QuantizeLinear" else data
        zero = has_zero_point(node)
        if zero:
            kind = self.types.get(node.input[2], 0)
        elif node.op_type == "QuantizeLinear":
            # Without a zero point and without output_dtype (opset 21), ONNX means uint8.
            kind = attribute(node, "output_dtype") or TensorProto.UINT8
        else:
            kind = self.types.get(data, 0)
        return Quantizer(
            node,
            kind,
            source in self.constants,
            self.shapes.get(data, []),
            self.array(node.input[1]),
            self.array(node.input[2]) if zero else None,
            attribute(node, "axis"),
        )

    def array(self, name: str) -> NDArray[Any] | None:
        """A constant's values, where the model holds them."""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(tensor)


def named(node: NodeProto) -> str:
    return f"{node.op_type} {node.name or '-> ' + node.output[0]}"


def type_name(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)).lower()


def has_zero_point(node: NodeProto) -> bool:
    return len(node.input) > 2 and bool(node.input[2])


def attribute(node: NodeProto, name: str) -> Any:
    """The value of an attribute, None where it is not written."""
    for one in node.attribute:
        if one.name == name:
            return helper.get_attribute_value(one)
    return None


def constant(node: NodeProto) -> TensorProto | None:
    """What a Constant node holds; None for text and for sparse values."""
    for name, kind in CONSTANTS.items():
        value = attribute(node, name)
        if value is not None:
            return value if kind is None else numpy_helper.from_array(np.asarray(value, kind), node.output[0])
    return None


def opset_of(model: onnx.ModelProto) -> OperatorSetIdProto:
    """The entry that says which version of ONNX's own operators the model is written in."""
    for entry in model.opset_import:
        if entry.domain in OWN_DOMAIN:
            return entry
    raise Refusal("the model does not say which opset of ONNX it is written in; export it again")


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy that also answers the named tensors; those that have a type in the model keep it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {value.name for value in (*copy.graph.input, *copy.graph.output)}
    known = {value.name: value for value in copy.graph.value_info}
    copy.graph.output.extend(
        known.get(name) or onnx.ValueInfoProto(name=name) for name in names if name not in there
    )
    return copy


def every_graph(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and those in its nodes (the branches of an If, the body of a Loop)."""
    yield graph
    for node in graph.node:
        for one in node.attribute:
            for inner in [one.g] if one.type == AttributeProto.GRAPH else one.graphs:
                yield from every_graph(inner)
