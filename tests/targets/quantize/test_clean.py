"""A stranger's file as the quantizer reads it: the same answers, and activations whole again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from support.qdq import SHAPE, Net, images, network
from targets.errors import Refusal
from targets.quantize.clean import OPSET, cleaned

Spelling = Callable[[Net, str], str]


def number(net: Net, value: float) -> str:
    return net.constant(np.float32(value))


def hard(net: Net, x: str) -> str:
    """clip(x + 3, 0, 6)"""
    moved = net.op("Add", x, number(net, 3))
    return net.op("Clip", moved, number(net, 0), number(net, 6))


def erf(net: Net, x: str) -> str:
    """1 + erf(x / √2)"""
    return net.op("Add", net.op("Erf", net.op("Div", x, number(net, 1.41421))), number(net, 1))


SPELLINGS: dict[str, tuple[str, Spelling]] = {
    "x · clip / 6": (
        "HardSwish",
        lambda net, x: net.op("Div", net.op("Mul", x, hard(net, x)), number(net, 6)),
    ),
    "x · (clip / 6)": (
        "HardSwish",
        lambda net, x: net.op("Mul", x, net.op("Div", hard(net, x), number(net, 6))),
    ),
    "clip · x · (1/6)": (
        "HardSwish",
        lambda net, x: net.op("Mul", net.op("Mul", hard(net, x), x), number(net, 0.16667)),
    ),
    "clip / 6": ("HardSigmoid", lambda net, x: net.op("Div", hard(net, x), number(net, 6))),
    "x · erf · (1/2)": (
        "Gelu",
        lambda net, x: net.op("Mul", net.op("Mul", x, erf(net, x)), number(net, 0.5)),
    ),
    "(x / 2) · erf": ("Gelu", lambda net, x: net.op("Mul", net.op("Mul", x, number(net, 0.5)), erf(net, x))),
}


def spelled(name: str) -> onnx.ModelProto:
    net = Net(1)
    x = net.op("Conv", "images", net.constant(net.generator.normal(0, 1, (4, 4, 1, 1)).astype(np.float32)))
    return net.model(SPELLINGS[name][1](net, x), ["batch", *SHAPE[1:]])


def answers(model: onnx.ModelProto) -> np.ndarray:
    return ReferenceEvaluator(model).run(None, {"images": images(1)})[0]


@pytest.mark.parametrize("name", SPELLINGS)
def test_an_activation_in_parts_is_one_operator_again(name: str) -> None:
    model = spelled(name)
    made = cleaned(model, "a file")
    kinds = Counter(node.op_type for node in made.graph.node)
    assert kinds == Counter(
        {"Conv": 1, SPELLINGS[name][0]: 1, **({"Identity": 1} if kinds["Identity"] else {})}
    )
    np.testing.assert_allclose(answers(made), answers(model), rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(("shift", "top", "divisor"), [(2.0, 6.0, 6.0), (3.0, 5.0, 6.0), (3.0, 6.0, 5.0)])
def test_what_only_looks_like_one_is_left(shift: float, top: float, divisor: float) -> None:
    net = Net(1)
    moved = net.op("Add", "images", number(net, shift))
    clipped = net.op("Clip", moved, number(net, 0), number(net, top))
    out = net.op("Div", net.op("Mul", "images", clipped), number(net, divisor))
    model = net.model(out, ["batch", *SHAPE[1:]])
    made = cleaned(model, "a file")
    assert {"HardSwish", "HardSigmoid"} & {node.op_type for node in made.graph.node} == set()
    np.testing.assert_allclose(answers(made), answers(model), rtol=1e-5)


def of_opset_11() -> onnx.ModelProto:
    """A convolution and a batch-norm, and a mean whose axes are an attribute, as files of opset 11 have them."""
    generator = np.random.default_rng(0)
    shapes = {"w": (4, 4, 3, 3), "scale": (4,), "shift": (4,), "mean": (4,), "var": (4,)}
    held = {name: generator.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"], epsilon=1e-3),
        helper.make_node("ReduceMean", ["n"], ["m"], axes=[2, 3], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "old",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *SHAPE[1:]])],
        [helper.make_tensor_value_info("m", TensorProto.FLOAT, ["batch", 4, 1, 1])],
        [numpy_helper.from_array(values, name) for name, values in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)


def test_an_old_file_is_raised_and_its_batch_norms_folded() -> None:
    model = of_opset_11()
    made = cleaned(model, "a file")
    assert made.opset_import[0].version == OPSET
    assert [node.op_type for node in made.graph.node] == ["Conv", "ReduceMean"]
    # onnx's evaluator takes the batch-norm of opset 9 for one in training.
    given, run = {"images": images(1)}, ort.InferenceSession(model.SerializeToString()).run
    np.testing.assert_allclose(answers(made), run(None, given)[0], rtol=1e-4)


def test_a_file_that_is_quantized_already_is_refused() -> None:
    with pytest.raises(Refusal, match=r"m\.onnx: it is quantized already; give the float file"):
        cleaned(network(["conv"], 1), "m.onnx")


def test_nodes_without_names_get_names_of_their_own() -> None:
    """Layers are kept float, and reported, by their names."""
    model = of_opset_11()
    for node in model.graph.node:
        node.name = ""
    names = [node.name for node in cleaned(model, "a file").graph.node]
    assert all(names) and len(set(names)) == len(names)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["w", "mean"])  # a batch-norm's becomes the convolution's bias
def test_weights_that_are_no_numbers_are_refused(name: str, value: float) -> None:
    model = of_opset_11()
    (tensor,) = [one for one in model.graph.initializer if one.name == name]
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = value
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    with pytest.raises(Refusal, match=r"m\.onnx: conv: its weights are no finite numbers"):
        cleaned(model, "m.onnx")
