"""Which tensors the rewrite takes for never negative: found where it is so, and never where it is not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from support.qdq import SHAPE, Net, everything, images
from targets.convert.qdq_zero_points import never_negative

UNARY = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs", "Neg", "LeakyRelu", "Tanh", "Identity")
POOLS = ("GlobalAveragePool", "GlobalMaxPool", "MaxPool", "AveragePool", "ReduceMean")


@st.composite
def any_graph(draw: st.DrawFn) -> onnx.ModelProto:
    """A few operators in any order, on tensors and on constants of any sign."""
    net, shapes = Net(0), {"images": SHAPE[1:]}
    kinds = (*UNARY, *POOLS, "Clip", "Q", "Add", "Mul", "Sub", "Concat", "Conv", "Transpose")
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=8)):
        x = draw(st.sampled_from(list(shapes)[-3:]))  # mostly what was just made, so that chains grow
        shape = shapes[x]
        others = [name for name in shapes if shapes[name] == shape]
        if kind in UNARY:
            out = net.op(kind, x)
        elif kind.startswith("Global"):
            out, shape = net.op(kind, x), (shape[0], 1, 1)
        elif kind == "ReduceMean":
            out, shape = net.op(kind, x, net.constant(np.array([2, 3]))), (shape[0], 1, 1)
        elif kind in POOLS:
            out = net.op(kind, x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        elif kind == "Clip":
            out = net.clip(x, draw(st.sampled_from([-1.0, 0.0, 0.5])))
        elif kind == "Q":
            out = net.quantized(x, 0.1)
        elif kind == "Transpose":
            out, shape = net.op(kind, x, perm=[0, 1, 3, 2]), (shape[0], shape[2], shape[1])
        elif kind == "Conv":
            out = net.op(kind, x, net.weights(shape[0], shape[0], 1, 1))
        else:
            sign = draw(st.sampled_from([-1, 1]))
            fixed = net.constant(np.full((SHAPE[0], *shape), 0.5 * sign, np.float32))
            pair = [x, draw(st.sampled_from([*others, fixed]))]
            pair = pair[:: draw(st.sampled_from([1, -1]))]
            out = net.op(kind, *pair, **({"axis": 1} if kind == "Concat" else {}))
            shape = (2 * shape[0], *shape[1:]) if kind == "Concat" else shape
        shapes[out] = shape
    last = list(shapes)[-1]
    return net.model(last, ["batch", *shapes[last]])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of exponentials that overflow
@settings(max_examples=300)
@given(any_graph(), st.integers(0, 999))
def test_never_negative_is_sound(model: onnx.ModelProto, seed: int) -> None:
    found = never_negative(model.graph, {tensor.name: tensor for tensor in model.graph.initializer})
    seen = everything(model, images(seed) / np.float32(3))
    # The evaluator's quantizer counts in 32 bits, and what overflows there comes out negative.
    assume(all(np.abs(value).max() < 1e8 for value in seen.values() if value.dtype == np.float32))
    assert {name for name in found if np.any(seen[name] < 0)} == set()


@pytest.mark.parametrize("kind", ["Add", "Mul", "Concat"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_negative_constant_beside_a_positive_tensor_counts(kind: str, sign: int) -> None:
    net = Net(0)
    fixed = net.constant(np.full(SHAPE, 0.5 * sign, np.float32))
    out = net.op(kind, net.op("Relu", "images"), fixed, **({"axis": 1} if kind == "Concat" else {}))
    constants = {tensor.name: tensor for tensor in net.constants}
    graph = helper.make_graph(net.nodes, "net", [], [])
    assert (out in never_negative(graph, constants)) == (sign > 0)
