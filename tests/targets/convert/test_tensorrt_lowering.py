"""Each pass keeps the answers and clears its rule, on small graphs and on networks as this project exports them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from support.qdq import SHAPE, Net
from support.trt_graphs import CASES, cast, feed, good, kernel, nodes, of_opset, small
from targets.convert.tensorrt_lint import RULES, VERSIONS, lint
from targets.convert.tensorrt_lowering import PASSES, lowered
from targets.convert.tensorrt_parser import second_opinion
from targets.errors import Refusal

ROUNDING = 1e-6  # of a mean, whose terms may be added in another order


def mean(axes: list[int], keep: int, opset: int = 18) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net(5)
        out = net.op("ReduceMean", "images", net.constant(np.array(axes)), keepdims=keep)
        shape = ["batch", *SHAPE[1:]]
        for axis in sorted((axis % 4 for axis in axes), reverse=True):
            shape[axis : axis + 1] = [1] if keep else []
        return of_opset(net.model(out, shape), opset)

    return make


def two_inputs() -> ModelProto:
    """As opset 21 lets a Q/DQ say its type without a zero point."""
    model = good(21)
    for node in [*nodes(model, "QuantizeLinear"), *nodes(model, "DequantizeLinear")]:
        del node.input[2]
        if node.op_type == "QuantizeLinear":
            node.attribute.append(helper.make_attribute("output_dtype", TensorProto.INT8))
    return model


def split() -> ModelProto:
    net = Net(6)
    net.nodes.append(helper.make_node("Split", ["images"], ["a", "b"], axis=1, num_outputs=2))
    largest = net.op("ReduceMax", net.op("Concat", "b", "a", axis=1), net.constant(np.array([1])), keepdims=1)
    return of_opset(net.model(largest, ["batch", 1, *SHAPE[2:]]), 18)


def pooled(opset: int, **attributes: Any) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net(7)
        pool = net.op("AveragePool", "images", kernel_shape=[3, 3], strides=[2, 2], **attributes)
        side = 4 if attributes.get("ceil_mode") else 3
        return of_opset(net.model(pool, ["batch", SHAPE[1], side, side]), opset)

    return make


# By rule: graphs that its pass mends, with the version that has the rule.
MENDED: dict[str, tuple[str, Callable[[], ModelProto]]] = {
    "uint8-tensor": ("10.3", CASES["bytes-turned"].make),
    "reduce-axes": ("8.5", mean([2, 3], 1)),
    "reduce-axes dropped": ("8.5", mean([2, 3], 0)),
    "reduce-axes from behind": ("8.5", mean([-1, -2], 0)),
    "unsaid-axis": ("10.3", CASES["no-axis"].make),
    "unsaid-axis on 8.5": ("8.5", CASES["no-axis"].make),
    "two-inputs": ("8.5", two_inputs),
    "int8-constant": ("8.5", good),
    "opset of 21": ("10.3", lambda: good(21)),
    "opset of 18": ("8.5", good),
    "opset with other axes": ("8.5", mean([1], 1)),
    "opset with a split": ("8.5", split),
    "opset with a pool": ("8.5", pooled(20)),
}


def answers(model: ModelProto, *also: str) -> list[NDArray[Any]]:
    """By ONNX Runtime, node by node as the file has them; onnx's reference has no Q/DQ before opset 19."""
    asked = copy.deepcopy(model)
    asked.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.INT8, None) for name in also)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(asked.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    generator, shape = np.random.default_rng(0), [3, *images.shape[1:]]
    batch = generator.integers(0, 256, shape, dtype=np.uint8)
    given = batch if images.type == "tensor(uint8)" else generator.random(shape, dtype=np.float32)
    return [np.asarray(answer) for answer in session.run(None, {images.name: given})]


def averages(model: ModelProto) -> bool:
    return bool(nodes(model, "GlobalAveragePool") or nodes(model, "AveragePool"))


def difference(left: ModelProto, right: ModelProto) -> float:
    return float(np.abs(answers(left)[0] - answers(right)[0]).max())


def rules(model: ModelProto, version: str) -> set[str]:
    return {finding.rule for finding in lint(model, version)}


@pytest.mark.parametrize("name", MENDED)
def test_a_pass_clears_its_rule_and_keeps_the_answers(name: str) -> None:
    (version, make), rule = MENDED[name], name.split()[0]
    model = make()
    before = model.SerializeToString()
    assert rule in rules(model, version)
    done = lowered(model, version)
    assert model.SerializeToString() == before, "the given model was changed"
    assert rules(done, version) == set()
    onnx.checker.check_model(done, full_check=True)
    assert difference(done, model) <= (ROUNDING if averages(done) else 0)


@pytest.mark.parametrize("name", MENDED)
def test_a_lowered_file_is_left_as_it_is(name: str) -> None:
    version, make = MENDED[name]
    once = lowered(make(), version)
    assert lowered(once, version) == once


def test_every_pass_is_tried() -> None:
    assert {name.split()[0] for name in MENDED} == set(PASSES)
    assert set(PASSES) <= set(RULES)


def nonzero() -> ModelProto:
    """A weight whose zero point the pair would have to carry."""
    model = good()
    zeros = kernel(model).input[2]
    (tensor,) = (t for t in model.graph.initializer if t.name == zeros)
    tensor.CopyFrom(numpy_helper.from_array(np.full(4, 2, np.int8), zeros))
    return model


def turned(readers: list[NodeProto]) -> Callable[[], ModelProto]:
    turn = helper.make_node("Transpose", ["raw"], ["turned"], "turn", perm=[0, 3, 1, 2])
    return lambda: feed(good(), TensorProto.UINT8, ["batch", *SHAPE[2:], SHAPE[1]], turn, *readers)


gelu = helper.make_node("Gelu", ["x"], ["y"], "gelu")
# What a pass requires and does not get: it leaves the graph, and the linter goes on saying so.
UNMET: dict[str, tuple[str, Callable[[], ModelProto]]] = {
    "uint8-tensor": ("10.3", turned([cast("turned", "images"), cast("turned", "again")])),
    "two-inputs": ("8.5", CASES["uint8-by-omission"].make),
    "int8-constant": ("8.5", nonzero),
    "opset for a rounding": ("8.5", pooled(20, ceil_mode=1)),
    "opset for an operator": ("8.5", lambda: small(gelu, TensorProto.FLOAT, TensorProto.FLOAT, opset=20)),
}


@pytest.mark.parametrize("name", UNMET)
def test_what_a_pass_requires_and_does_not_get_stays_a_finding(name: str) -> None:
    version, make = UNMET[name]
    model = make()
    done = lowered(model, version)
    assert name.split()[0] in rules(done, version)
    assert difference(done, model) == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_good_is_not_touched(version: str) -> None:
    model = CASES["good-on-8.5"].make()
    assert lowered(model, version) == model


def test_weights_are_the_same_int8_to_the_bit() -> None:
    model = good()
    done = lowered(model, "8.5")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = [node for node in nodes(model, "DequantizeLinear") if node.input[0] in constants]
    found = answers(done, *(f"{node.output[0]}.int8" for node in weights))[1:]
    assert len(weights) == 2
    for node, values in zip(weights, found, strict=True):
        assert np.array_equal(values, constants[node.input[0]]) and values.dtype == np.int8
        assert node.input[0] not in {tensor.name for tensor in done.graph.initializer}, "it is there twice"


def test_a_version_that_is_not_known_is_refused() -> None:
    with pytest.raises(Refusal, match="no version of TensorRT named '12'"):
        lowered(good(), "12")


def squeezenet() -> Any:
    from torchvision import models

    return models.squeezenet1_1(num_classes=4), "nchw-float32", 20


def mobilenet() -> Any:
    """MobileNetV3 cut short: a pool and a product in its middle, hard-swish, depthwise convolutions."""
    from torchvision.models import mobilenetv3

    def block(inputs: int, wide: int, outputs: int, squeeze: bool, activation: str, stride: int) -> Any:
        return mobilenetv3.InvertedResidualConfig(
            inputs, 3, wide, outputs, squeeze, activation, stride, 1, 1.0
        )

    blocks = [block(16, 16, 16, True, "RE", 2), block(16, 48, 24, True, "HS", 1)]
    return mobilenetv3.MobileNetV3(blocks, 64, num_classes=4), "nchw-float32", 18


def residual() -> Any:
    from pipeline.models.catalogue import NETWORKS

    return NETWORKS["resnet8"](4), "nhwc-uint8", 20


@pytest.fixture(scope="module", params=[squeezenet, mobilenet, residual], ids=lambda make: make.__name__)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """A network with random weights, quantized and exported as a recipe's is."""
    torch = pytest.importorskip("torch", reason="the exporter is torch's")
    from pipeline.artifacts.onnx_file import Deployed, write
    from pipeline.quantization.grid import convert
    from pipeline.quantization.ptq import calibrate, prepare
    from support import tiny
    from targets.spec.contract import Contract

    torch.manual_seed(0)
    network, layout, opset = request.param()
    side, path = 32, tmp_path_factory.mktemp("exported") / "model.onnx"
    model = tiny.wrap(network, side)
    grid = prepare(model, tiny.square(side))
    calibrate(grid, [tiny.pictures(8, side)])
    write(Deployed(convert(grid), layout), Contract(layout, (side, side), tuple("abcd")), opset, path)
    return onnx.load(path)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_export_is_good_for_every_version(exported: ModelProto, version: str, tmp_path: Path) -> None:
    done = lowered(exported, version)
    assert lint(done, version) == []
    onnx.checker.check_model(done, full_check=True)
    assert done.metadata_props == exported.metadata_props, "its contract is lost"
    logits = answers(exported)[0]
    assert np.ptp(logits, axis=0).any(), "it answers the same to all"
    assert difference(done, exported) <= ROUNDING * np.abs(logits).max()
    path = tmp_path / "model.onnx"
    onnx.save(done, path)
    assert second_opinion(path) in ([], None)


def test_nvidia_s_parser_takes_an_export(exported: ModelProto, tmp_path: Path) -> None:
    """So that the test above is known to have asked somebody."""
    path = tmp_path / "model.onnx"
    onnx.save(lowered(exported, "10.3"), path)
    opinion = second_opinion(path)
    if opinion is None:
        pytest.skip("NVIDIA's parser is not installed: pip install 'retort[tensorrt-rtx]'")
    assert opinion == []
