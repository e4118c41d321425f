"""Which layers stay float: the ones that cost the most answers, and no more than are needed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from support.qdq import SHAPE, Net, everything, images
from targets.quantize.calibrate import histograms
from targets.quantize.exchange import exchange
from targets.quantize.sensitivity import kept_float, layers, ranked
from targets.spec.contract import Contract

CONTRACT = Contract("nchw-float32", (8, 8), (), "images", "logits")
COUNT = 6


def chain(spoiled: tuple[int, ...] = ()) -> onnx.ModelProto:
    """Convolutions of four channels in a row; a spoiled one reads a channel that is a thousand times the others.

    Its scale is that channel's, so the others are lost in it.
    """
    net, x = Net(5), "images"
    for number in range(COUNT):
        wide = np.array([1000.0 if number in spoiled else 1.0, 1, 1, 1], np.float32).reshape(1, 4, 1, 1)
        kernel = (net.generator.normal(0, 0.5, (4, 4, 1, 1)) / wide).astype(np.float32)
        if number in spoiled:
            x = net.op("Mul", x, net.constant(wide))
        x = net.op("Tanh", net.op("Conv", x, net.constant(kernel)))
    return net.model(x, ["batch", *SHAPE[1:]])


def few(model: onnx.ModelProto) -> np.ndarray:
    return everything(model, images(2))["logits"]


def steps_of(model: onnx.ModelProto) -> dict[str, float]:
    names = [node.input[0] for node in model.graph.node if node.op_type == "Conv"]
    found = histograms(model, names, [images(number) for number in range(4)], CONTRACT)
    return {name: one.largest / 127 for name, one in found.items()}


@pytest.mark.parametrize("spoiled", [(0,), (3,), (1, 4)])
def test_the_layers_that_read_outliers_come_first(spoiled: tuple[int, ...]) -> None:
    model = chain(spoiled)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    rank = ranked(model, steps_of(model), few)
    assert sorted(rank) == sorted(convolutions)
    assert set(rank[: len(spoiled)]) == {convolutions[number] for number in spoiled}


@pytest.mark.parametrize(("spoiled", "kept"), [((), 0), ((3,), 1), ((1, 4), 2)])
def test_no_more_layers_stay_float_than_must(spoiled: tuple[int, ...], kept: int) -> None:
    model = chain(spoiled)
    steps, expected = steps_of(model), few(model)
    apart = lambda made: float(np.abs(few(made) - expected).mean())
    found = kept_float(model, steps, few, apart, most=0.03)
    assert found is not None and len(found) == kept
    assert apart(exchange(model, steps, frozenset(found))) <= 0.03
    assert (apart(exchange(model, steps)) <= 0.03) == (kept == 0)


def test_where_half_of_the_layers_in_float_would_not_do_nothing_is_kept() -> None:
    model = chain()
    asked = []
    assert kept_float(model, steps_of(model), few, lambda made: asked.append(made) or 1.0, most=0.5) is None
    assert [len(layers(model, steps_of(model))), len(asked)] == [
        COUNT,
        3,
    ]  # all in int8, then 1 and 2 in float


def test_a_node_that_is_kept_reads_and_multiplies_in_float() -> None:
    model = chain()
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    made = exchange(model, steps_of(model), frozenset(convolutions[1:]))
    makers = {node.output[0]: node.op_type for node in made.graph.node}
    reads = {
        node.name: [makers.get(name) for name in node.input[:2]]
        for node in made.graph.node
        if node.op_type == "Conv"
    }
    assert reads.pop(convolutions[0]) == ["DequantizeLinear"] * 2
    assert all("DequantizeLinear" not in found for found in reads.values())
