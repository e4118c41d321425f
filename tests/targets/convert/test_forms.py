"""The forms of bytes against the trained s8 one, by onnx's reference evaluator, which is not ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from support.qdq import POSITIVE, SHAPE, SIGNED, Net, everything, images, network, regridded
from targets.convert.forms import choose
from targets.errors import Refusal

VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}


def quantizers(model: onnx.ModelProto) -> dict[str, tuple[Any, Any]]:
    """Of each QuantizeLinear, by what it reads: its scale and its zero point."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    return {node.input[0]: (values[node.input[1]], values[node.input[2]]) for node in nodes}


step_lists = st.lists(st.sampled_from(SIGNED + POSITIVE), min_size=1, max_size=4)


@settings(max_examples=40)
@given(step_lists, st.integers(0, 999))
def test_u8_widens_what_is_positive_and_shifts_the_rest(steps: list[str], seed: int) -> None:
    model = network(steps, seed)
    before, after = quantizers(model), quantizers(regridded(model, "u8"))
    assert before.keys() == after.keys()
    for source, (scale, zero) in after.items():
        old, low = before[source][0], lowest(source, model)
        assert zero.dtype == np.uint8
        if low is None or low <= -64 * old:
            assert (scale, zero) == (old, 128)
        else:  # from its bound to the trained grid's highest number, both within half a step
            assert scale == pytest.approx((127 * old - low) / 255, rel=1e-6)
            assert abs(low + zero * scale) <= scale / 2 and (zero == 0) == (low == 0)


def lowest(source: str, model: onnx.ModelProto) -> float | None:
    """By its name, a tensor's bound: of a chain of operators that keep it, the first that sets it."""
    makers = {node.output[0]: node for node in model.graph.node}
    while source in makers:
        node = makers[source]
        if node.op_type == "Relu":
            return 0.0
        if node.op_type == "Clip":
            below = lowest(node.input[0], model)
            bound = float(numpy_helper.to_array(constants(model)[node.input[1]]))
            return bound if below is None else max(bound, below)
        if node.op_type == "Add":
            both = [lowest(name, model) for name in node.input]
            return None if None in both else sum(one for one in both if one is not None)
        if node.op_type == "Conv":
            return None
        source = node.input[0]
    return None


def constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


@pytest.mark.parametrize("form", ["u8", "u8-narrow"])
@pytest.mark.parametrize("step", POSITIVE)
def test_a_tensor_that_cannot_be_negative_is_found(step: str, form: str) -> None:
    """The quantizers of the image and of the signed convolution lie around a middle; those after the step do not."""
    found = quantizers(regridded(network(["conv", step], 1), form))
    zeros = [(zero.dtype, int(zero)) for _, zero in found.values()]
    signed = (np.uint8, 128 if form == "u8" else 64)
    assert zeros[:2] == [signed] * 2
    assert zeros[2:] == [(np.uint8, 0)] * len(zeros[2:]) and len(zeros) > 2


@pytest.mark.parametrize("step", SIGNED)
def test_a_tensor_that_can_be_negative_keeps_its_sign(step: str) -> None:
    found = quantizers(regridded(network(["conv", step], 1), "u8"))
    assert 0 not in {int(zero) for _, zero in found.values()}


@settings(max_examples=30)
@given(st.lists(st.sampled_from(("conv", "add", "maxpool")), min_size=1, max_size=4), st.integers(0, 999))
def test_the_shifted_form_answers_to_the_bit(steps: list[str], seed: int) -> None:
    """Saturating values included: the images reach far beyond 127 steps."""
    model, batch = network(steps, seed, scale=0.02), images(seed)
    before, after = everything(model, batch), everything(regridded(model, "u8"), batch)
    np.testing.assert_array_equal(after["logits"], before["logits"])
    assert np.ptp(before["logits"]) > 0


@settings(max_examples=30)
@given(step_lists, st.integers(0, 999))
def test_the_form_for_arm_is_the_unsigned_one_shifted(steps: list[str], seed: int) -> None:
    """The same values from the lowest step to the highest; what has no low bound stays as it was trained."""
    model, batch = network(steps, seed), images(seed)
    before, after, wide = (quantizers(one) for one in (model, regridded(model, "s8"), regridded(model, "u8")))
    for source, (scale, zero) in after.items():
        assert zero.dtype == np.int8 and int(zero) == int(wide[source][1]) - 128
        assert int(zero) != 0 or scale == before[source][0]
    signed, unsigned = (everything(regridded(model, form), batch)["logits"] for form in ("s8", "u8"))
    np.testing.assert_array_equal(signed, unsigned)


@pytest.mark.parametrize("form", ["u8", "u8-narrow", "s8"])
def test_all_who_read_a_quantized_tensor_read_it_in_its_new_form(form: str) -> None:
    net = Net(8)
    step = net.constant(np.float32(0.1))
    stored = net.op("QuantizeLinear", net.op("Relu", "images"), step, net.zero)
    one, two = (net.op("DequantizeLinear", stored, step, net.zero) for _ in range(2))
    model = net.model(net.op("Sub", one, two), ["batch", *SHAPE[1:]])
    assert not everything(regridded(model, form), images(8))["logits"].any()


def test_the_widened_form_has_the_same_range_in_twice_as_many_steps() -> None:
    net = Net(5)
    model = net.model(net.quantized(net.op("Relu", "images"), 0.05), ["batch", *SHAPE[1:]])
    batch = np.linspace(-1, 8, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)
    before, after = (everything(one, batch)["logits"] for one in (model, regridded(model, "u8")))
    inside = (batch >= 0) & (batch <= 127 * 0.05)
    assert after.max() == pytest.approx(before.max(), rel=1e-6)
    assert np.abs(before - batch)[inside].max() == pytest.approx(0.05 / 2, rel=0.02)
    assert np.abs(after - batch)[inside].max() <= 0.05 * 127 / 255 / 2 + 1e-6


@settings(max_examples=30)
@given(step_lists, st.integers(0, 999))
def test_the_narrow_form_keeps_the_scale_of_positives_and_doubles_the_others(
    steps: list[str], seed: int
) -> None:
    model = network(steps, seed)
    before, after = quantizers(model), quantizers(regridded(model, "u8-narrow"))
    wide = quantizers(regridded(model, "u8"))
    for source, (scale, zero) in after.items():
        old, unsigned = before[source][0], int(wide[source][1])
        assert zero.dtype == np.uint8
        if not multiplied(source, model):
            assert (scale, zero) == wide[source]
        elif unsigned in (0, 128):
            assert int(zero) == unsigned // 2 and scale == old * (1 if unsigned == 0 else 2)
        else:
            assert scale == pytest.approx((127 * old - lowest(source, model)) / 128, rel=1e-6)


def multiplied(source: str, model: onnx.ModelProto) -> bool:
    """Whether a tensor reaches a convolution or a matrix product by operators that move values."""
    readers = [node for node in model.graph.node if source in node.input]
    moving = ("QuantizeLinear", "DequantizeLinear", "MaxPool", "Flatten")
    return any(
        node.op_type in ("Conv", "Gemm") or (node.op_type in moving and multiplied(node.output[0], model))
        for node in readers
    )


@settings(max_examples=20)
@given(step_lists, st.integers(0, 999))
def test_in_the_narrow_form_no_two_products_saturate_inside_the_range(steps: list[str], seed: int) -> None:
    """With a scale so wide that nothing is cut off, as on the images that set it."""
    batch = images(seed)
    for scale in (0.05 * 2**power for power in range(9)):
        model = network(steps, seed, scale)
        before = everything(model, batch)
        if (
            max(np.abs(before[name].astype(int)).max() for name in before if name.startswith("quantize"))
            < 127
        ):
            break
    after = everything(regridded(model, "u8-narrow"), batch)
    held = {name.removesuffix("/quantized"): after[name] for name in after if name.endswith("/quantized")}
    assert any(multiplied(source, model) for source in held)
    for source, values in held.items():
        if multiplied(source, model):
            assert values.dtype == np.uint8 and values.max() <= 128, "two products could saturate"
    assert 2 * 128 * 127 < 2**15


@pytest.mark.parametrize("form", ["none", "u8", "u8-narrow"])
def test_weights_and_the_given_model_are_left_as_they_are(form: str) -> None:
    model = network(["conv", "relu-add"], 2)
    kept = model.SerializeToString()
    after = regridded(model, form)
    assert model.SerializeToString() == kept
    assert weights(after) == weights(model) and len(weights(model)) == 4
    onnx.checker.check_model(after, full_check=True)


def weights(model: onnx.ModelProto) -> dict[str, list[bytes]]:
    """Of each dequantized constant, by who reads it: its values, scales and zero points."""
    held = constants(model)
    pairs = [
        node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in held
    ]
    readers = {name: node.name for node in model.graph.node for name in node.input}
    return {
        readers[node.output[0]]: [numpy_helper.to_array(held[name]).tobytes() for name in node.input]
        for node in pairs
    }


def test_without_another_form_the_file_computes_what_it_did() -> None:
    model, batch = network(["conv", "relu-add", "clip-signed", "maxpool"], 2), images(3)
    before, after = everything(model, batch), everything(regridded(model, "none"), batch)
    np.testing.assert_array_equal(after["logits"], before["logits"])


def test_weights_that_are_quantized_in_the_graph_stay_signed() -> None:
    net = Net(4)
    kernel = net.constant(net.generator.normal(0, 1, (4, 4, 1, 1)).astype(np.float32))
    out = net.op("Conv", net.quantized("images", 0.05), net.quantized(kernel, 0.02))
    found = quantizers(regridded(net.model(out, ["batch", *SHAPE[1:]]), "u8"))
    assert {source: zero.dtype for source, (_, zero) in found.items()} == {
        "images": np.uint8,
        kernel: np.int8,
    }


@pytest.mark.parametrize("zero", [np.int8(3), np.uint8(128), np.uint8(0)])
@pytest.mark.parametrize("form", ["u8", "u8-narrow"])
def test_another_grid_than_the_trained_one_is_refused(zero: Any, form: str) -> None:
    net = Net(4)
    net.zero = net.constant(zero)
    model = net.model(net.quantized("images", 0.05), ["batch", *SHAPE[1:]])
    with pytest.raises(Refusal, match="zero point 0 in int8"):
        regridded(model, form)


@pytest.mark.parametrize("feature", sorted(VNNI))
def test_choose_widens_where_products_do_not_saturate(feature: str) -> None:
    assert choose("auto", ["avx2", feature]) == "u8"


@pytest.mark.parametrize("features", [[], ["avx2"], ["avx2", "avx512f"], ["asimddp"]])
def test_choose_is_narrow_elsewhere(features: list[str]) -> None:
    assert choose("auto", features) == "u8-narrow"


@pytest.mark.parametrize("asked", ["none", "u8", "u8-narrow"])
def test_choose_does_what_a_profile_says(asked: str) -> None:
    assert choose(asked, ["avx512_vnni"]) == choose(asked, []) == asked
