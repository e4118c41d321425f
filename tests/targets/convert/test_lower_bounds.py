"""The number that no value of a tensor is below: sound on any graph, and no lower than it must be."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from support.qdq import SHAPE, Net, everything, images
from targets.convert.grid import lift, lower_bounds

UNARY = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs", "Neg", "LeakyRelu", "Tanh", "Identity")
UNARY += ("HardSwish", "Gelu")
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
def test_no_value_is_below_its_bound(proto: onnx.ModelProto, seed: int) -> None:
    model = ir.from_proto(proto)
    lift(model.graph)
    found = {value.name: bound for value, bound in lower_bounds(model.graph).items()}
    seen = everything(ir.to_proto(model), images(seed) / np.float32(3))
    assume(all(np.isfinite(value).all() for value in seen.values()))
    assert {
        name for name, bound in found.items() if np.any(seen[name] < bound - 1e-4 * (1 + abs(bound)))
    } == set()


@pytest.mark.parametrize(
    ("kind", "lowest"),
    [("Relu", 0.0), ("HardSwish", -0.375), ("Gelu", -0.17), ("Sigmoid", 0.0), ("Swish", -0.2785)],
)
def test_the_bound_of_an_activation_is_reached(kind: str, lowest: float) -> None:
    """Within a hundredth, on every number from -8 to 8: no range is wider than it must be."""
    net = Net(0)
    out = net.op("Mul", "images", net.op("Sigmoid", "images")) if kind == "Swish" else net.op(kind, "images")
    model = ir.from_proto(net.model(out, ["batch", *SHAPE[1:]]))
    bounds = {value.name: bound for value, bound in lower_bounds(model.graph).items()}
    numbers = np.linspace(-8, 8, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)
    seen = everything(ir.to_proto(model), numbers)[out]
    assert bounds[out] == lowest <= seen.min() <= lowest + 0.01


@pytest.mark.parametrize("kind", ["Add", "Mul", "Concat"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_negative_constant_beside_a_positive_tensor_counts(kind: str, sign: int) -> None:
    net = Net(0)
    fixed = net.constant(np.full(SHAPE, 0.5 * sign, np.float32))
    out = net.op(kind, net.op("Relu", "images"), fixed, **({"axis": 1} if kind == "Concat" else {}))
    model = ir.from_proto(net.model(out, ["batch" for _ in SHAPE]))
    bounds = {value.name: bound for value, bound in lower_bounds(model.graph).items()}
    assert (bounds.get(out, -1.0) >= 0) == (sign > 0)
