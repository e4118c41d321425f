"""A linter for what TensorRT's ONNX parser takes, by version; it needs numpy and onnx, no TensorRT.

Sources: onnx-tensorrt's importers and docs/operators.md at TensorRT 8.4, 8.5, 10.6 and 10.15, NVIDIA's opset guide
for 11.x, and the parser of tensorrt-rtx 1.7.1, which the tests ask about the same files. Where a parser takes a
file and computes something else than it says, the linter refuses it all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from targets.convert.graph import AXIS, OWN_DOMAIN, QUANTIZERS, Graph, has_zero_point, named, type_name
from targets.errors import unknown

Types = frozenset[int]
Found = Iterator[tuple[str, str]]  # where, why

BASIC: Types = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BOOL, TensorProto.INT8})
BASIC |= {TensorProto.INT32, TensorProto.INT64}
NEWER: Types = BASIC | {TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.INT4}
REDUCES = {"ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"}
REDUCES |= {"ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"}
FROM_UINT8 = ("Cast", "Shape")
ZERO_POINT = 2  # which input of Q/DQ


@dataclass(frozen=True)
class Version:
    """What one version's parser differs in. None takes uint8 in Q/DQ, or zero points other than 0."""

    max_opset: int
    types: Types  # uint8 has a rule of its own
    needs_zero_points: bool = False  # Q/DQ must have all three inputs
    reads_axes: bool = True  # from the second input of Reduce*, where opset 18 has put them
    int8_constants: bool = True  # as weights before a DequantizeLinear
    default_axis: int = AXIS  # of per-channel Q/DQ
    lacks: frozenset[str] = frozenset()  # operators that exporters use and it does not know


VERSIONS = {
    # JetPack 5.1. operators.md of 8.5: opset 17, no LayerNormalization. The importer of 8.4 reads the axes of
    # ReduceMean from the attribute alone, so it averages over everything; three inputs and axis 0 are from there
    # too. int8 constants were refused up to 8.4.1 (NVIDIA/TensorRT issue 2163); nothing says that 8.5 differs.
    "8.5": Version(
        max_opset=17,
        types=BASIC,
        needs_zero_points=True,
        reads_axes=False,
        int8_constants=False,
        default_axis=0,
        lacks=frozenset({"LayerNormalization", "GroupNormalization", "IsInf", "Hardmax", "Gelu", "Mish"}),
    ),
    # JetPack 6.1. "Opset 9 to opset 20" is what operators.md said from 10.0 (NVIDIA/TensorRT issue 4336). Axis 0
    # is the default of the importer of 10.6.
    "10.3": Version(max_opset=20, types=NEWER, default_axis=0),
    # NVIDIA's ONNX opset guide for 11.x; the axis as tensorrt-rtx 1.7.1 has it.
    "11": Version(max_opset=25, types=NEWER | {TensorProto.FLOAT4E2M1}),
}


@dataclass(frozen=True)
class Finding:
    """One thing that keeps a version of TensorRT from running a file as it is meant."""

    rule: str
    node: str
    reason: str
    mend: str

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}; {self.mend}"


@dataclass(frozen=True)
class Rule:
    """A check, how to get a good file, and the versions that it is for."""

    check: Callable[[Graph, Version], Found]
    mend: str
    versions: tuple[str, ...] = tuple(VERSIONS)


def lint(model: onnx.ModelProto, version: str) -> list[Finding]:
    """What keeps a version of TensorRT from taking the model; empty for a good one.

    A file that names others for its weights is to be loaded with ``load_external_data=False``.
    """
    if version not in VERSIONS:
        raise unknown("version of TensorRT", version, VERSIONS, "tensorrt")
    graph, facts = Graph(model), VERSIONS[version]
    return [
        Finding(name, where, why, rule.mend.format(version=version))
        for name, rule in RULES.items()
        if version in rule.versions
        for where, why in rule.check(graph, facts)
    ]


def is_integer_operator(node: NodeProto) -> bool:
    return node.op_type.startswith("QLinear") or node.op_type in ("ConvInteger", "MatMulInteger")


def operator_format(graph: Graph, version: Version) -> Found:
    for node in filter(is_integer_operator, graph.nodes):
        yield named(node), "it computes on integers itself, for which the parser has no importer"


def dynamic_quantization(graph: Graph, version: Version) -> Found:
    for node in graph.nodes:
        if node.op_type == "DynamicQuantizeLinear":
            yield named(node), "it takes its scale from each input; scales must be known at build time"


def foreign_operator(graph: Graph, version: Version) -> Found:
    for node in graph.nodes:
        if node.domain not in OWN_DOMAIN and not is_integer_operator(node):
            yield named(node), f"it is of the domain {node.domain}, not one of ONNX's own operators"


def lacking_operator(graph: Graph, version: Version) -> Found:
    for node in graph.nodes:
        if node.op_type in version.lacks and node.domain in OWN_DOMAIN:
            yield named(node), "an operator that this version's parser does not have"


def quantized_as(*kinds: int) -> Callable[[Graph, Version], Found]:
    def check(graph: Graph, version: Version) -> Found:
        for one in graph.quantizers:
            if one.kind in kinds:
                yield one.where, f"its quantized side is {type_name(one.kind)}, where int8 is the type"

    return check


def zero_point(graph: Graph, version: Version) -> Found:
    for one in graph.quantizers:
        if one.zero is not None and np.any(one.zero):
            worst = one.zero.flat[np.argmax(np.abs(one.zero.astype(np.int64)))]
            yield one.where, f"its zero point is {worst}, where only 0 is taken"


def two_inputs(graph: Graph, version: Version) -> Found:
    for one in graph.quantizers:
        if not has_zero_point(one.node):
            yield one.where, "it has no zero point; this version's parser wants all three inputs"


def unsaid_axis(graph: Graph, version: Version) -> Found:
    for one in graph.quantizers:
        if one.per_channel and one.axis is None:
            yield (
                one.where,
                f"scales per channel but no axis: ONNX means {AXIS}, this version {version.default_axis}",
            )


def scale_value(graph: Graph, version: Version) -> Found:
    for one in graph.quantizers:
        scale = np.empty(0) if one.scale is None else np.asarray(one.scale, np.float64).ravel()
        bad = scale[~(np.isfinite(scale) & (scale > 0))]
        if bad.size:
            yield one.where, f"a scale is {bad[0]:g}; all must be above 0 and finite"


def scale_count(graph: Graph, version: Version) -> Found:
    for one in graph.quantizers:
        if one.scale is None:
            continue
        if one.zero is not None and one.zero.size != one.scale.size:
            yield one.where, f"{one.scale.size} scales for {one.zero.size} zero points"
        axis = AXIS if one.axis is None else one.axis
        if one.per_channel and -len(one.shape) <= axis < len(one.shape):
            channels = one.shape[axis]
            if one.scale.ndim != 1 or channels not in (0, one.scale.size):
                shape = "x".join(map(str, one.scale.shape))
                yield one.where, f"{shape} scales along axis {axis}, which has {channels}"


def channels_of_activations(graph: Graph, version: Version) -> Found:
    for one in graph.quantizers:
        if one.per_channel and not one.weight:
            yield one.where, "scales per channel on what flows; only weights may have them"


def computed_scale(graph: Graph, version: Version) -> Found:
    for one in graph.quantizers:
        for name in filter(None, one.node.input[1:3]):
            if name not in graph.constants:
                yield one.where, f"{name} is computed in the graph; scales and zero points must be constants"


def int8_constant(graph: Graph, version: Version) -> Found:
    for node in graph.nodes:
        read = node.input[:ZERO_POINT] if node.op_type in QUANTIZERS else node.input
        for name in read:
            if name in graph.constants and graph.types[name] == TensorProto.INT8:
                yield named(node), f"it reads the int8 constant {name}; this version's constants are float"


def reduce_axes(graph: Graph, version: Version) -> Found:
    for node in graph.nodes:
        if node.op_type in REDUCES and len(node.input) > 1 and node.input[1]:
            yield named(node), "its axes are an input, which this version does not read: it reduces all axes"


def opset(graph: Graph, version: Version) -> Found:
    if graph.opset > version.max_opset:
        yield "the model", f"it is of opset {graph.opset}; this version's parser knows {version.max_opset}"


def element_type(graph: Graph, version: Version) -> Found:
    rows = [one.node for one in graph.quantizers]
    quantized = {name for n in rows for name in (n.input[0], n.output[0], *n.input[2:])}
    for name, kind in graph.types.items():
        if kind not in version.types | {TensorProto.UNDEFINED, TensorProto.UINT8} and name not in quantized:
            yield f"tensor {name}", f"its type is {type_name(kind)}, in which TensorRT does not compute"


def uint8_tensor(graph: Graph, version: Version) -> Found:
    made_here = (*QUANTIZERS, "DynamicQuantizeLinear")
    outputs = {value.name for value in graph.model.graph.output}
    for name, kind in graph.types.items():
        maker = graph.made_by(name)
        if kind != TensorProto.UINT8 or name in graph.constants or maker in made_here:
            continue
        if maker and not (maker == "Cast" and name in outputs):
            yield f"tensor {name}", "uint8 inside the graph; only inputs and outputs may be"
        for node in graph.readers(name):
            if node.op_type not in (*FROM_UINT8, *QUANTIZERS):
                yield named(node), f"it reads {name} in uint8, of which only a Cast may come first"


def input_shape(graph: Graph, version: Version) -> Found:
    for value in graph.inputs:
        kind = value.type.tensor_type
        sides = [dim.dim_value or dim.dim_param or "?" for dim in kind.shape.dim]
        if not kind.HasField("shape") or any(not isinstance(side, int) for side in sides[1:]):
            shape = " x ".join(map(str, sides)) or "unknown"
            yield f"input {value.name}", f"its shape is {shape}; only the batch may be open"


def external_data(graph: Graph, version: Version) -> Found:
    for name, tensor in graph.constants.items():
        if tensor.data_location == TensorProto.EXTERNAL:
            place = {entry.key: entry.value for entry in tensor.external_data}.get("location", "?")
            yield f"tensor {name}", f"its values lie in {place}, which does not travel with the file"


def those(differ: Callable[[Version], bool]) -> tuple[str, ...]:
    return tuple(name for name, version in VERSIONS.items() if differ(version))


SYMMETRIC = 'export with the symmetric grid (rewrite = "none")'
LOWER = 'lower the file: targets.lowering.lowered(model, "{version}")'
QDQ = "quantize with QuantizeLinear / DequantizeLinear pairs (ONNX Runtime: QuantFormat.QDQ)"
RULES: dict[str, Rule] = {
    "operator-format": Rule(operator_format, QDQ),
    "dynamic-quantization": Rule(dynamic_quantization, "quantize with ranges from calibration images"),
    "foreign-operator": Rule(foreign_operator, "export ONNX's own operators; inline local functions"),
    "lacking-operator": Rule(
        lacking_operator, "use a newer JetPack, or a network without it", those(lambda v: bool(v.lacks))
    ),
    "uint8": Rule(quantized_as(TensorProto.UINT8), SYMMETRIC),
    "sixteen-bit": Rule(quantized_as(TensorProto.INT16, TensorProto.UINT16), SYMMETRIC),
    "quantized-bias": Rule(
        quantized_as(TensorProto.INT32), "leave biases in float (ONNX Runtime: QuantizeBias=False)"
    ),
    "zero-point": Rule(zero_point, SYMMETRIC),
    "two-inputs": Rule(two_inputs, LOWER, those(lambda v: v.needs_zero_points)),
    "unsaid-axis": Rule(unsaid_axis, LOWER, those(lambda v: v.default_axis != AXIS)),
    "scale-value": Rule(scale_value, "calibrate again, with images that reach this tensor"),
    "scale-count": Rule(scale_count, "give one scale, or one for each channel of the axis"),
    "channels-of-activations": Rule(channels_of_activations, "quantize activations per tensor"),
    "computed-scale": Rule(computed_scale, "fold constants before export"),
    "int8-constant": Rule(int8_constant, LOWER, those(lambda v: not v.int8_constants)),
    "reduce-axes": Rule(reduce_axes, LOWER, those(lambda v: not v.reads_axes)),
    "opset": Rule(opset, "set a lower opset in the target's profile (18 at least), then " + LOWER),
    "element-type": Rule(element_type, "make it float32 before export"),
    "uint8-tensor": Rule(uint8_tensor, "cast images to float32 first; " + LOWER),
    "input-shape": Rule(input_shape, "export for images of one size; leave only the batch open"),
    "external-data": Rule(external_data, "export as one file (external_data=False)"),
}
