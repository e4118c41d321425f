"""Rewrites that keep a file's answers and make it one that a version of TensorRT takes.

A pass is named by the rule of the linter that it clears, and runs for the versions that have the rule. Each
says what it requires, and leaves alone what does not meet it: the linter then says so. Beyond sums in another
order (a mean, 1e-6), answers stay equal to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from targets.convert.graph import (
    AXIS,
    OWN_DOMAIN,
    Graph,
    Quantizer,
    attribute,
    has_zero_point,
    opset_of,
    type_name,
)
from targets.convert.tensorrt_lint import REDUCES, RULES, VERSIONS, Version
from targets.errors import unknown

Pass = Callable[[Graph, Version], None]
SPATIAL = {2, 3}  # of a 4-D tensor, N x C x H x W
AXES_AS_INPUT = 18  # the opset that made an input of the axes of Reduce*
PARTS_COUNTED = 18  # the opset that gave Split its num_outputs
# Operators that later opsets gave more element types or optional attributes and nothing else (opsets 18 to 25, by
# the schemas of onnx 1.23): without those a node means the same in an older opset.
WIDENED = {"Cast", "Constant", "ConstantOfShape", "Conv", "DequantizeLinear", "Equal", "Flatten"}
WIDENED |= {"GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "MaxPool"}
WIDENED |= {"AveragePool", "QuantizeLinear", "Reshape", "Shape", "Split", "Squeeze", "Transpose"}
WIDENED |= {"Unsqueeze"}


def lowered(model: onnx.ModelProto, version: str) -> onnx.ModelProto:
    """A copy for a version of TensorRT; what no pass can mend is left for the linter to name."""
    if version not in VERSIONS:
        raise unknown("version of TensorRT", version, VERSIONS, "tensorrt")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for rule, change in PASSES.items():
        if version in RULES[rule].versions:
            change(Graph(copy), VERSIONS[version])
            # Types of intermediate tensors may have changed; whoever loads the file infers them again.
            del copy.graph.value_info[:]
    forget_unread(Graph(copy))
    return copy


def forget_unread(graph: Graph) -> None:
    """Constants in whose place a pass has put others."""
    own = graph.model.graph
    read = {name for node in graph.nodes for name in node.input} | {value.name for value in own.output}
    kept = [tensor for tensor in own.initializer if tensor.name in read]
    del own.initializer[:]
    own.initializer.extend(kept)


def replace(graph: Graph, nodes: Iterable[NodeProto]) -> None:
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.model.graph.node[:]
    graph.model.graph.node.extend(copies)


def cast_first(graph: Graph, version: Version) -> None:
    """Requires: a Transpose of a uint8 input of the graph, read by one Cast alone. Ensures: the Cast comes first."""
    nodes = list(graph.model.graph.node)
    inputs = {value.name for value in graph.inputs if graph.types[value.name] == TensorProto.UINT8}
    outputs = {value.name for value in graph.model.graph.output}
    for turn in [node for node in nodes if node.op_type == "Transpose" and node.input[0] in inputs]:
        readers = graph.readers(turn.output[0])
        if turn.output[0] in outputs or [node.op_type for node in readers] != ["Cast"]:
            continue
        (cast,) = readers
        places = nodes.index(turn), nodes.index(cast)
        cast.input[0], turn.input[0] = turn.input[0], turn.output[0]
        cast.output[0], turn.output[0] = turn.output[0], cast.output[0]
        nodes[places[0]], nodes[places[1]] = cast, turn
    replace(graph, nodes)


def pool(graph: Graph, version: Version) -> None:
    """Requires: a ReduceMean of a 4-D tensor over (2, 3), given as a constant input. Ensures: it is a global
    average pool, and a Flatten where the two axes are dropped."""
    nodes = []
    for node in graph.model.graph.node:
        if node.op_type == "ReduceMean" and axes_of(graph, node) == SPATIAL:
            keep = attribute(node, "keepdims") != 0
            pooled = node.output[0] if keep else f"{node.output[0]}.pooled"
            nodes.append(helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=node.name))
            if not keep:
                name = f"{node.name}.flat" if node.name else ""
                nodes.append(helper.make_node("Flatten", [pooled], [node.output[0]], name=name, axis=1))
        else:
            nodes.append(node)
    replace(graph, nodes)


def axes_of(graph: Graph, node: NodeProto) -> set[int]:
    """The axes of a Reduce of opset 18, from 0 on; empty where input or rank are unknown."""
    axes = graph.array(node.input[1]) if len(node.input) > 1 else None
    rank = len(graph.shapes.get(node.input[0], []))
    return set() if axes is None or not rank else {int(axis) % rank for axis in axes}


def say_axis(graph: Graph, version: Version) -> None:
    """Ensures: per-channel Q/DQ say their axis, also where it is ONNX's default."""
    for one in graph.quantizers:
        if one.per_channel and one.axis is None:
            one.node.attribute.append(helper.make_attribute("axis", AXIS))


def give_zero_points(graph: Graph, version: Version) -> None:
    """Requires: a Q/DQ without a zero point whose quantized side is int8, with a constant scale. Ensures: it has
    all three inputs."""
    for one in graph.quantizers:
        if has_zero_point(one.node) or one.kind != TensorProto.INT8 or one.scale is None:
            continue
        name = f"{one.node.input[1]}.zero"
        if name not in graph.constants:
            zeros = numpy_helper.from_array(np.zeros(one.scale.shape, np.int8), name)
            graph.model.graph.initializer.append(zeros)
            graph.constants[name] = zeros
        # An optional input that is left out may also be written as an empty name.
        del one.node.input[2:]
        one.node.input.append(name)
        drop(one.node, "output_dtype")


def drop(node: NodeProto, name: str) -> None:
    left = [one for one in node.attribute if one.name != name]
    del node.attribute[:]
    node.attribute.extend(left)


def pair_weights(graph: Graph, version: Version) -> None:
    """Requires: a DequantizeLinear of an int8 constant with zero point 0. Ensures: the constant is float, on the
    grid, and quantized in the graph: four times as large a file, the same int8 weights to the bit."""
    nodes, found = [], {one.node.output[0]: one for one in graph.quantizers}
    for node in graph.model.graph.node:
        one = found.get(node.output[0])
        if one is not None and (pair := quantized_again(graph, one)) is not None:
            weights, quantize = pair
            graph.model.graph.initializer.append(weights)
            nodes.append(quantize)
            node.input[0] = quantize.output[0]
        nodes.append(node)
    replace(graph, nodes)


def quantized_again(graph: Graph, one: Quantizer) -> tuple[TensorProto, NodeProto] | None:
    """A float constant and the QuantizeLinear that makes an int8 constant of it; None where rounding would differ."""
    values, scale = graph.array(one.node.input[0]), one.scale
    if values is None or values.dtype != np.int8 or one.zero is None or np.any(one.zero):
        return None
    if scale is None or scale.ndim > 1:
        return None
    shape = [1] * values.ndim
    if one.per_channel:
        shape[AXIS if one.axis is None else one.axis] = -1
    steps = scale.reshape(shape)
    floats = values.astype(scale.dtype) * steps
    with np.errstate(all="ignore"):  # a scale of 0 is the linter's to name
        if not np.array_equal(np.rint(floats / steps), values):
            return None
    names = [f"{one.node.output[0]}.{part}" for part in ("float", "int8")]
    inputs = [names[0], *one.node.input[1:]]
    quantize = helper.make_node("QuantizeLinear", inputs, [names[1]], name=names[1], axis=one.axis)
    return numpy_helper.from_array(floats, names[0]), quantize


def declare_older(graph: Graph, version: Version) -> None:
    """Requires: every node means the same in the older opset. Ensures: the file is of that opset."""
    older = version.max_opset
    own = [node for node in graph.nodes if node.domain in OWN_DOMAIN]
    if graph.opset <= older or graph.model.functions:
        return
    if not all(keeps(graph, node, older) for node in own):
        return
    for node in own:
        if node.op_type in REDUCES and older < AXES_AS_INPUT <= graph.opset:
            axes_as_attribute(graph, node)
        if node.op_type == "Split" and older < PARTS_COUNTED:
            drop(node, "num_outputs")
    opset_of(graph.model).version = older


def keeps(graph: Graph, node: NodeProto, opset: int) -> bool:
    """Whether a node means the same in an older opset, or does once its axes are an attribute again."""
    if node.op_type in REDUCES and opset < AXES_AS_INPUT <= graph.opset:
        known = len(node.input) < 2 or graph.array(node.input[1]) is not None
        return known and not attribute(node, "noop_with_empty_axes")
    try:
        new, old = (onnx.defs.get_schema(node.op_type, version) for version in (graph.opset, opset))
    except onnx.defs.SchemaError:
        return False
    if new.since_version == old.since_version:
        return True
    allowed = {one.type_param_str: one.allowed_type_strs for one in old.type_constraints}
    typed = all(
        f"tensor({type_name(graph.types[name])})" in allowed.get(formal.type_str, [formal.type_str])
        for name, formal in zip(node.input, old.inputs, strict=False)
        if name in graph.types
    )
    written = {one.name for one in node.attribute}
    if splits_evenly(graph, node):
        written -= {"num_outputs"}
    return (
        node.op_type in WIDENED
        and typed
        and len(node.input) <= old.max_input
        and written <= set(old.attributes)
        and not attribute(node, "ceil_mode")  # its rounding has been corrected since
    )


def splits_evenly(graph: Graph, node: NodeProto) -> bool:
    """Before opset 18 a Split without sizes was into equal parts, as many as it has outputs."""
    shape = graph.shapes.get(node.input[0], []) if node.op_type == "Split" else []
    axis = attribute(node, "axis") or 0
    return -len(shape) <= axis < len(shape) and shape[axis] > 0 and shape[axis] % len(node.output) == 0


def axes_as_attribute(graph: Graph, node: NodeProto) -> None:
    drop(node, "noop_with_empty_axes")
    axes = graph.array(node.input[1]) if len(node.input) > 1 else None
    if axes is not None:
        del node.input[1:]
        node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes]))


# By the rule that each clears, in the order in which they run.
PASSES: dict[str, Pass] = {
    "uint8-tensor": cast_first,
    "reduce-axes": pool,
    "unsaid-axis": say_axis,
    "two-inputs": give_zero_points,
    "int8-constant": pair_weights,
    "opset": declare_older,
}
