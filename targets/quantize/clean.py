"""A stranger's float file as the quantizer reads it: one opset, batch-norms folded, activations whole again.

ONNX Runtime's own basic passes fold constants, batch-norms and pads; what they leave in parts, HardSwish and GELU
as older exporters spell them, is put together here.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass

from targets.convert.graph import opset_of
from targets.convert.grid import array, reads, scalar
from targets.convert.rewrites import Nodes
from targets.errors import Refusal, first_line
from targets.runner.backends.ort import HEAVY, optimized, session_options

OPSET = 20  # the first with GELU; pairs with a scale for each channel need 13
CLOSE = 1e-3  # of constants such as 0.7071, which exporters write with few digits


def cleaned(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """A file of opset 20 or above that computes the same.

    Raises Refusal for a file that is quantized already, or whose weights are no numbers.
    """
    kinds = {node.op_type for node in model.graph.node}
    if kinds & {"QuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"}:
        raise Refusal(f"{where}: it is quantized already; give the float file")
    try:
        if opset_of(model).version < OPSET:
            model = onnx.version_converter.convert_version(model, OPSET)
        # Its basic passes keep to ONNX's own operators.
        model = onnx.load_from_string(
            optimized(model.SerializeToString(), "BASIC", session_options({"threads": 1}))
        )
    except Refusal:
        raise
    except Exception as error:  # of two libraries' own kinds
        raise Refusal(f"{where}: cannot be read as opset {OPSET}: {first_line(error)}") from None
    made = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    for node in list(made.graph):
        if node.graph is made.graph:
            join_activation(node, made.graph)
    RemoveUnusedNodesPass()(made)
    NameFixPass()(made)  # some exporters name no nodes; nodes are kept float, and reported, by their names
    check_numbers(made.graph, where)
    proto: onnx.ModelProto = ir.to_proto(made)
    return proto


def check_numbers(graph: ir.Graph, where: str) -> None:
    """Raises Refusal for a weight or bias that no byte can hold."""
    for node in graph:
        for values in map(array, node.inputs[1:] if node.op_type in HEAVY else ()):
            if values is not None and not np.isfinite(values).all():
                raise Refusal(f"{where}: {node.name}: its weights are no finite numbers; export it again")


def join_activation(node: ir.Node, graph: ir.Graph) -> None:
    """x · clip(x + 3, 0, 6) / 6 is HardSwish, clip(x + 3, 0, 6) / 6 HardSigmoid, x · (1 + erf(x / √2)) / 2 GELU."""
    if node.op_type == "Clip":
        moved = reads(node).producer()
        x = beside_constant(moved, "Add", 3.0)
        if x is None or [scalar(one) for one in node.inputs[1:]] != [0.0, 6.0]:
            return
        whole, kind = product(node.outputs[0], x, 1 / 6), "HardSwish"
        if whole is None:
            whole, kind = product(node.outputs[0], None, 1 / 6), "HardSigmoid"
    elif node.op_type == "Erf":
        scaled = reads(node).producer()
        x = beside_constant(scaled, "Div", np.sqrt(2)) or beside_constant(scaled, "Mul", np.sqrt(0.5))
        plus = [one for one in node.outputs[0].consumers() if beside_constant(one, "Add", 1.0) is not None]
        if x is None or len(plus) != 1:
            return
        whole, kind = product(plus[0].outputs[0], x, 0.5), "Gelu"
    else:
        return
    if whole is not None:
        made = Nodes(graph, whole)
        more = {"alpha": 1 / 6, "beta": 0.5} if kind == "HardSigmoid" else {}
        made.replace(made(kind, x, **more), {})


def beside_constant(node: ir.Node | None, kind: str, constant: float) -> ir.Value | None:
    """What an operator combines with a constant; None for another operator or constant."""
    if node is None or node.op_type != kind:
        return None
    pairs = [(reads(node), reads(node, 1))]
    pairs += [] if kind == "Div" else [(reads(node, 1), reads(node))]
    for x, number in pairs:
        found = scalar(number)
        if found is not None and abs(found - constant) <= CLOSE * abs(constant):
            return x
    return None


def product(start: ir.Value, x: ir.Value | None, constant: float) -> ir.Node | None:
    """The last of the products that multiply ``start`` with x (unless None) and with a constant, and no more."""
    factor, value, last, missing = 1.0, start, None, x is not None
    while missing or abs(factor - constant) > CLOSE * constant:
        readers = value.consumers()
        if len(readers) != 1 or readers[0].op_type not in ("Mul", "Div") or value.is_graph_output():
            return None
        (last,) = readers
        first, second = reads(last), reads(last, 1)
        other = second if first is value else first
        number, half = scalar(other), beside_constant(other.producer(), "Mul", constant)
        if number is not None and (first is value or last.op_type == "Mul"):
            factor = factor / number if last.op_type == "Div" else factor * number
        elif missing and last.op_type == "Mul" and other is x:
            missing = False
        elif missing and last.op_type == "Mul" and half is x:
            missing, factor = False, factor * constant
        else:
            return None
        value = last.outputs[0]
    return last
