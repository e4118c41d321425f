"""An ONNX file from outside: read whole, with the tensors that lie in files beside it, or refused in one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from targets.errors import Refusal, first_line
from targets.provenance.manifest import verify_file
from targets.regular_file import regular_file

# What onnx, onnx-ir and protobuf raise for a broken file.
WRONG = (OSError, ValueError, RuntimeError, OverflowError, DecodeError, onnx.checker.ValidationError)


def load(path: Path) -> onnx.ModelProto:
    """A file and the files of its tensors, each as the manifest beside it says, if one does. Raises Refusal."""
    try:
        verify_file(regular_file(path))
        for name in external_files(onnx.load(path, load_external_data=False)):
            verify_file(path.parent / name)
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file") from None
    except WRONG as error:
        raise Refusal(f"{path}: not a usable ONNX file: {first_line(error)}") from None
    return read(path)


def read(path: Path) -> onnx.ModelProto:
    """The same without a look at manifests."""
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        if not model.graph.node:
            raise ValueError("it has no nodes")
        check_rest(model)
    except WRONG as error:
        raise Refusal(f"{path}: not a usable ONNX file: {first_line(error)}") from None
    return model


def check_rest(model: onnx.ModelProto) -> None:
    """What onnx's checker passes: constants of another size than they say, texts that are none, names twice."""
    for ends in (model.graph.input, model.graph.output):
        if len({one.name for one in ends}) < len(ends):
            raise ValueError("two inputs, or two outputs, have one name")
    graph = ir.from_proto(model)
    for value in graph.graph.initializers.values():
        if value.const_value is not None:
            value.const_value.numpy()
    ir.to_proto(graph)


def external_files(proto: onnx.ModelProto) -> list[str]:
    """Their paths from the file's folder, each once; ``proto`` is loaded without them."""
    nodes = [node for function in proto.functions for node in function.node]
    found = [*tensors(proto.graph), *of_nodes(nodes)]
    return sorted({ExternalDataInfo(one).location for one in found if uses_external_data(one)})


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from of_nodes(graph.node)


def of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from tensors(graph)
