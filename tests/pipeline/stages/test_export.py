"""The exported file: valid, equal to torch, for any batch, with its contract and nothing of this machine."""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter is torch's")

import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import nn

from pipeline.artifacts import comparison, onnx_file
from pipeline.artifacts.comparison import compare
from pipeline.artifacts.onnx_file import Deployed, write
from pipeline.quantization.grid import convert
from support import tiny
from support.qdq import regridded
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal
from targets.runner.backends import ort as runner
from targets.spec.contract import Contract, Layout, read_contract

CLASSES = tuple("abcd")
# What a residual network and its normalisation are made of, and Q/DQ: no shape arithmetic, no gathering.
NETWORK = {"Conv", "Relu", "Add", "Gemm", "ReduceMean", "GlobalAveragePool", "Flatten", "Reshape", "Squeeze"}
PLAIN = NETWORK | {"Transpose", "Cast", "Sub", "Div", "Mul", "QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True)
class Written:
    """A file, and the module it was made of."""

    kind: str
    layout: Layout
    opset: int
    deployed: nn.Module
    path: Path

    @property
    def contract(self) -> Contract:
        return Contract(self.layout, (tiny.SIDE, tiny.SIDE), CLASSES)

    @property
    def proto(self) -> onnx.ModelProto:
        return onnx.load(self.path)


FORMS: list[tuple[str, Layout, int]] = [
    ("float", "nchw-float32", 18),
    ("float", "nhwc-uint8", 20),
    ("int8", "nchw-float32", 20),
    ("int8", "nhwc-uint8", 18),
]


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    return {"float": tiny.model(seed=1), "int8": convert(tiny.graph())}


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: "-".join(map(str, form)))
def written(
    request: pytest.FixtureRequest,
    networks: dict[str, nn.Module],
    tmp_path_factory: pytest.TempPathFactory,
) -> Written:
    kind, layout, opset = request.param
    path = tmp_path_factory.mktemp("file") / "model.onnx"
    found = Written(kind, layout, opset, Deployed(networks[kind], layout), path)
    write(found.deployed, found.contract, opset, path)
    return found


def raw_images(count: int) -> NDArray[np.uint8]:
    pictures = (tiny.pictures(count, seed=7) * 255).to(torch.uint8)
    return np.ascontiguousarray(pictures.permute(0, 2, 3, 1).numpy())


def answers(file: Path | bytes, fed: NDArray[np.generic], exact: bool = True) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if exact:  # what the file says; a processor's int8 kernels may saturate
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": fed})[0]  # type: ignore[no-any-return]


def test_the_file_is_valid_and_has_one_input_and_one_output(written: Written) -> None:
    proto = written.proto
    onnx.checker.check_model(proto, full_check=True)
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", written.opset)]
    (given,), (answer,) = proto.graph.input, proto.graph.output
    assert (given.name, answer.name) == ("images", "logits")
    uint8 = written.layout == "nhwc-uint8"
    assert given.type.tensor_type.elem_type == (TensorProto.UINT8 if uint8 else TensorProto.FLOAT)
    sides = [16, 16, 3] if uint8 else [3, 16, 16]
    for value, rest in ((given, sides), (answer, [4])):
        batch, *fixed = value.type.tensor_type.shape.dim
        assert batch.dim_param and not batch.dim_value
        assert [dim.dim_value for dim in fixed] == rest
    assert [p.name for p in written.path.parent.iterdir()] == ["model.onnx"], "no data beside the file"


def test_the_file_answers_as_torch_for_any_batch(written: Written) -> None:
    images = raw_images(64)
    fed = written.contract.prepare(images)
    with torch.no_grad():
        expected = written.deployed(torch.from_numpy(fed)).numpy()
    found = answers(written.path, fed)
    reach = float(np.abs(expected).max())
    assert len(set(expected.argmax(1).tolist())) > 1
    if written.kind == "float":
        assert np.abs(found - expected).max() < 1e-5 * max(1, reach)
    else:
        # One step of rounding may fall the other way, here and there.
        assert np.abs(found - expected).mean() < 0.005 * reach
        assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.98
    for count in (1, 3):
        few = answers(written.path, np.ascontiguousarray(fed[:count]))
        assert few.shape == (count, 4)
        assert few == pytest.approx(found[:count], abs=1e-5 if written.kind == "float" else 0.02 * reach)


def test_both_layouts_are_one_network(networks: dict[str, nn.Module]) -> None:
    images = raw_images(5)
    with torch.no_grad():
        nchw, nhwc = (
            Deployed(networks["float"], layout)(
                torch.from_numpy(Contract(layout, (16, 16), ()).prepare(images))
            )
            for layout in ("nchw-float32", "nhwc-uint8")
        )
        unit = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        assert torch.allclose(nchw, networks["float"](unit)[0], atol=1e-6)
    assert torch.allclose(nchw, nhwc, atol=1e-5)


def test_the_file_carries_its_contract_and_nothing_of_this_machine(written: Written) -> None:
    proto = written.proto
    assert read_contract(proto) == written.contract
    assert [prop.key for prop in proto.metadata_props] == ["retort.contract"]
    whole = written.path.read_bytes()
    home = Path(onnx_file.__file__).resolve().parents[2]
    for trace in (str(home), "site-packages", str(Path(torch.__file__).parent), platform.node()):
        assert trace.encode() not in whole
    for tensor in proto.graph.initializer:
        tensor.ClearField("raw_data")  # weights may spell anything
    text = proto.SerializeToString()
    for trace in (b".py", b'File "', b"Traceback", b"pipeline/", b"/usr/", b"/home/"):
        assert trace not in text
    assert not any(n.doc_string or n.metadata_props for n in proto.graph.node)


def test_the_file_is_the_network_and_no_more(written: Written) -> None:
    found = Counter(node.op_type for node in written.proto.graph.node)
    assert set(found) <= PLAIN, set(found) - PLAIN
    assert found["Conv"] == 9
    assert found["Add"] == 3
    assert not written.proto.functions


def test_an_int8_file_has_one_symmetric_grid_and_float_biases(written: Written) -> None:
    graph = written.proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    if written.kind == "float":
        assert pairs == []
        return
    for node in pairs:
        zero = numpy_helper.to_array(constants[node.input[2]])
        scale = numpy_helper.to_array(constants[node.input[1]])
        assert zero.dtype == np.int8 and not zero.any(), node.name
        assert scale.dtype == np.float32 and (scale > 0).all()
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            weight = numpy_helper.to_array(constants[node.input[0]])
            assert weight.dtype == np.int8, "stored as int8, a quarter of the size; and no int32 bias"
            assert weight.min() >= -127
            assert scale.shape == (len(weight),)
            assert [a.i for a in node.attribute if a.name == "axis"] == [0]
    heavy = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(heavy) == 10
    for node in heavy:
        assert [makers[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
        assert constants[node.input[2]].data_type == TensorProto.FLOAT
    sums = [
        [makers[name].op_type for name in node.input if name in makers]
        for node in graph.node
        if node.op_type == "Add"
    ]
    assert sums.count(["DequantizeLinear"] * 2) == 3


def has_vnni() -> bool:
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    return bool(flags & {"avx512_vnni", "avx_vnni", "amx_int8"})


@pytest.mark.skipif(not has_vnni(), reason="ONNX Runtime's u8 kernels are judged where VNNI makes them exact")
def test_the_u8_form_has_every_convolution_in_int8_and_answers_the_same(
    written: Written, tmp_path: Path
) -> None:
    if written.kind == "float":
        assert list(regridded(written.proto, "u8").graph.node) == list(written.proto.graph.node)
        return
    path = tmp_path / "u8.onnx"
    onnx.save(regridded(written.proto, "u8"), path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    facts = runner.build(str(path), {"threads": 1}, str(tmp_path / "engine.onnx"))
    assert facts["operators"]["QLinearConv"] == 9, facts["operators"]
    assert facts["operators"]["QLinearAdd"] == 3, facts["operators"]
    assert {"Conv", "FusedConv"} & set(facts["operators"]) == set()
    fed = written.contract.prepare(raw_images(200))
    canonical, fast = (answers(file, fed, exact=False) for file in (written.path, path))
    with torch.no_grad():
        exact = written.deployed(torch.from_numpy(fed)).numpy()
    for found in (canonical, fast):
        assert (found.argmax(1) == exact.argmax(1)).mean() >= 0.95
        assert np.abs(found - exact).mean() < 0.02 * np.abs(exact).max()


def test_an_opset_that_the_exporter_does_not_write_is_refused(tmp_path: Path) -> None:
    class Least(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.fc(x.mean((2, 3))),)

    with pytest.raises(Refusal, match=r"export: .*opset 17 .* 18"):
        write(
            Deployed(Least(), "nchw-float32"),
            Contract("nchw-float32", (8, 8), CLASSES),
            17,
            tmp_path / "m.onnx",
        )


def test_a_file_that_differs_from_torch_is_refused(written: Written, tmp_path: Path) -> None:
    data = tiny.write_set(tmp_path)
    tolerance = comparison.TOLERANCE[written.kind]
    told = compare(written.deployed, written.path, written.contract, data, written.kind)
    assert told["images"] == 12
    assert told["largest"] <= tolerance * told["logits_reach"]
    assert told["same_answer"] >= (1.0 if written.kind == "float" else 0.9)
    proto = written.proto
    (bias,) = (t for t in proto.graph.initializer if t.name.endswith("fc.bias"))
    moved = numpy_helper.to_array(bias) + np.float32(0.2 * told["logits_reach"])
    bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
    onnx.save(proto, tmp_path / "moved.onnx")
    with pytest.raises(
        Refusal, match=r"moved\.onnx differs from torch by .*; no convolution differs, so they part "
    ):
        compare(written.deployed, tmp_path / "moved.onnx", written.contract, data, written.kind)


@pytest.mark.parametrize("number", [0, 4])
def test_the_first_convolution_that_parts_is_named(written: Written, number: int, tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(written.proto.SerializeToString())
    node = [node for node in proto.graph.node if node.op_type == "Conv"][number]
    (bias,) = (tensor for tensor in proto.graph.initializer if tensor.name == node.input[2])
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(9), bias.name))
    onnx.save(proto, tmp_path / "moved.onnx")
    data = tiny.write_set(tmp_path)
    with pytest.raises(Refusal, match=rf"they part first at {node.name} \("):
        compare(written.deployed, tmp_path / "moved.onnx", written.contract, data, written.kind)
