"""The files beside an ONNX file that hold tensors of it: they are part of it, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data


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
