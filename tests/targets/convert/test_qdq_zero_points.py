"""The u8 forms against the trained s8 one, by onnx's reference evaluator, which is not ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from support.qdq import POSITIVE, SHAPE, SIGNED, Net, everything, images, network
from targets.convert.qdq_zero_points import choose, rewritten
from targets.errors import Refusal
from targets.runner.environment import cpu

VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}


def quantizers(model: onnx.ModelProto) -> dict[str, tuple[str, Any, Any]]:
    """Of each QuantizeLinear by name: what it reads, its scale and its zero point."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    return {node.name: (node.input[0], values[node.input[1]], values[node.input[2]]) for node in nodes}


step_lists = st.lists(st.sampled_from(SIGNED + POSITIVE), min_size=1, max_size=4)


@settings(max_examples=40)
@given(step_lists, st.integers(0, 999))
def test_u8_widens_what_is_positive_and_shifts_the_rest(steps: list[str], seed: int) -> None:
    model = network(steps, seed)
    before, after = quantizers(model), quantizers(rewritten(model, "u8"))
    assert before.keys() == after.keys()
    for name, (source, scale, zero) in after.items():
        old = before[name][1]
        positive = source.startswith("relu") or (source.startswith("clip") and zero == 0)
        assert zero.dtype == np.uint8 and int(zero) in (0, 128)
        assert scale == pytest.approx(old * 127 / 255, rel=1e-6) if zero == 0 else scale == old
        assert zero == 0 or not positive


@pytest.mark.parametrize("form", ["u8", "u8-narrow"])
@pytest.mark.parametrize("step", POSITIVE)
def test_a_tensor_that_cannot_be_negative_is_found(step: str, form: str) -> None:
    """The quantizers of the image and of the signed convolution lie around a middle; those after the step do not."""
    found = quantizers(rewritten(network(["conv", step], 1), form))
    zeros = [(zero.dtype, int(zero)) for _, _, zero in found.values()]
    signed = (np.uint8, 128 if form == "u8" else 64)
    assert zeros[:2] == [signed] * 2
    assert zeros[2:] == [(np.uint8, 0)] * len(zeros[2:]) and len(zeros) > 2


@pytest.mark.parametrize("step", SIGNED)
def test_a_tensor_that_can_be_negative_keeps_its_sign(step: str) -> None:
    found = quantizers(rewritten(network(["conv", step], 1), "u8"))
    assert {int(zero) for _, _, zero in found.values()} == {128}


@settings(max_examples=30)
@given(st.lists(st.sampled_from(SIGNED), min_size=1, max_size=4), st.integers(0, 999))
def test_the_shifted_form_answers_to_the_bit(steps: list[str], seed: int) -> None:
    """Saturating values included: the images reach far beyond 127 steps."""
    model, batch = network(steps, seed, scale=0.02), images(seed)
    before, after = everything(model, batch), everything(rewritten(model, "u8"), batch)
    np.testing.assert_array_equal(after["logits"], before["logits"])
    assert np.ptp(before["logits"]) > 0


@settings(max_examples=30)
@given(step_lists, st.integers(0, 999))
def test_the_form_for_arm_is_the_unsigned_one_shifted(steps: list[str], seed: int) -> None:
    """The same values from the lowest step to the highest; what can be negative stays as it was trained."""
    model, batch = network(steps, seed), images(seed)
    before, after = quantizers(model), quantizers(rewritten(model, "s8"))
    for name, (_, scale, zero) in after.items():
        assert zero.dtype == np.int8 and int(zero) in (0, -128)
        assert int(zero) == -128 or scale == before[name][1]
    signed, unsigned = (everything(rewritten(model, form), batch)["logits"] for form in ("s8", "u8"))
    np.testing.assert_array_equal(signed, unsigned)


@pytest.mark.parametrize("form", ["u8", "u8-narrow", "s8"])
def test_all_who_read_a_quantized_tensor_read_it_in_its_new_form(form: str) -> None:
    net = Net(8)
    step = net.constant(np.float32(0.1))
    stored = net.op("QuantizeLinear", net.op("Relu", "images"), step, net.zero)
    one, two = (net.op("DequantizeLinear", stored, step, net.zero) for _ in range(2))
    model = net.model(net.op("Sub", one, two), ["batch", *SHAPE[1:]])
    assert not everything(rewritten(model, form), images(8))["logits"].any()


def test_the_widened_form_has_the_same_range_in_twice_as_many_steps() -> None:
    net = Net(5)
    model = net.model(net.quantized(net.op("Relu", "images"), 0.05), ["batch", *SHAPE[1:]])
    batch = np.linspace(-1, 8, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)
    before, after = (everything(one, batch)["logits"] for one in (model, rewritten(model, "u8")))
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
    before, after = quantizers(model), quantizers(rewritten(model, "u8-narrow"))
    wide = quantizers(rewritten(model, "u8"))
    for name, (_, scale, zero) in after.items():
        positive = int(wide[name][2]) == 0
        assert zero.dtype == np.uint8 and int(zero) == (0 if positive else 64)
        assert scale == before[name][1] * (1 if positive else 2)


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
    after = everything(rewritten(model, "u8-narrow"), batch)
    for name in after:
        if after[name].dtype == np.uint8:
            assert after[name].max() <= 128, "two products could saturate"
    assert any(values.dtype == np.uint8 for values in after.values())
    assert 2 * 128 * 127 < 2**15


@pytest.mark.parametrize("form", ["none", "u8", "u8-narrow"])
def test_weights_and_the_given_model_are_left_as_they_are(form: str) -> None:
    model = network(["conv", "relu-add"], 2)
    kept = model.SerializeToString()
    after = rewritten(model, form)
    assert model.SerializeToString() == kept
    new = {tensor.name: tensor for tensor in after.graph.initializer}
    for tensor in model.graph.initializer:
        assert new[tensor.name] == tensor
    weighted = {node.name: list(node.input) for node in model.graph.node if node.input[0] in new}
    assert weighted == {node.name: list(node.input) for node in after.graph.node if node.input[0] in new}
    assert (after.SerializeToString() == kept) == (form == "none")
    onnx.checker.check_model(after, full_check=True)


def test_weights_that_are_quantized_in_the_graph_stay_signed() -> None:
    net = Net(4)
    kernel = net.constant(net.generator.normal(0, 1, (4, 4, 1, 1)).astype(np.float32))
    out = net.op("Conv", net.quantized("images", 0.05), net.quantized(kernel, 0.02))
    found = quantizers(rewritten(net.model(out, ["batch", *SHAPE[1:]]), "u8"))
    assert {source: zero.dtype for source, _, zero in found.values()} == {"images": np.uint8, kernel: np.int8}


@pytest.mark.parametrize("zero", [np.int8(3), np.uint8(128), np.uint8(0)])
@pytest.mark.parametrize("form", ["u8", "u8-narrow"])
def test_another_grid_than_the_trained_one_is_refused(zero: Any, form: str) -> None:
    net = Net(4)
    net.zero = net.constant(zero)
    model = net.model(net.quantized("images", 0.05), ["batch", *SHAPE[1:]])
    with pytest.raises(Refusal, match="expected zero point 0"):
        rewritten(model, form)


@pytest.mark.parametrize("feature", sorted(VNNI))
def test_choose_widens_where_products_do_not_saturate(feature: str) -> None:
    assert choose("auto", ["avx2", feature]) == "u8"


@pytest.mark.parametrize("features", [[], ["avx2"], ["avx2", "avx512f"], ["asimddp"]])
def test_choose_is_narrow_elsewhere(features: list[str]) -> None:
    assert choose("auto", features) == "u8-narrow"


@pytest.mark.parametrize("asked", ["none", "u8", "u8-narrow"])
def test_choose_does_what_a_profile_says(asked: str) -> None:
    assert choose(asked, ["avx512_vnni"]) == choose(asked, []) == asked


@pytest.mark.skipif(
    not VNNI & set(cpu()["features"]), reason="ONNX Runtime fuses u8 convolutions on x86 with VNNI"
)
def test_onnx_runtime_runs_every_convolution_in_int8(tmp_path: Path) -> None:
    # 6 / 127: a ReLU6 whose range was seen, so that the quantizer alone does the clipping.
    model = network(["conv", "relu", "relu-maxpool", "relu-add", "add", "clip"], 6, scale=6 / 127)
    kinds = {form: fused(rewritten(model, form), tmp_path / f"{form}.onnx") for form in ("none", "u8")}
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    assert kinds["u8"]["QLinearConv"] == convolutions
    assert kinds["u8"]["Conv"] == kinds["u8"]["FusedConv"] == 0
    # The reason for the rewrite: if this ever fails, ONNX Runtime has learnt s8 and it can go.
    assert kinds["none"]["QLinearConv"] < convolutions


def fused(model: onnx.ModelProto, path: Path) -> Counter[str]:
    """The operators left after ONNX Runtime's own fusions."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)
