"""The input contract: carried, read again, those of older files too; and what a foreign file leaves unsaid."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from targets.errors import Refusal
from targets.spec.contract import (
    KEY,
    Contract,
    Said,
    contract_of,
    infer_contract,
    read_contract,
    write_contract,
)

FREE = "n"
CONTRACT = Contract(
    "nchw-float32", (48, 192), ("a", "b"), channels="grey", resize=(50, 200), mean=(0.5,), std=(0.5,)
)


def foreign(shape: list[int | str], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A file that takes and gives an array of a shape."""
    node = helper.make_node("Identity", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    return helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]))


@pytest.mark.parametrize(
    "contract",
    [CONTRACT, replace(CONTRACT, channels="rgb", resize=256, interpolation="bicubic", mean=(), std=())],
)
def test_a_contract_is_read_as_it_was_written(contract: Contract) -> None:
    proto = foreign([FREE, 1, 48, 192])
    proto.graph.input[0].name = "images"
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [FREE, 2]))
    write_contract(proto, contract)
    assert read_contract(proto) == contract == contract_of(proto, "here", Said())
    with pytest.raises(Refusal, match=r"here: it carries what it takes; leave out --size, --range"):
        contract_of(proto, "here", Said(size=(8, 8), range="0..255"))


def test_a_contract_of_an_older_file_is_of_square_images_in_rgb() -> None:
    table = {name: value for name, value in asdict(CONTRACT).items() if name not in NEWER}
    proto = foreign([FREE, 3, 32, 32])
    helper.set_model_props(proto, {KEY: json.dumps({**table, "size": 32, "mean": [], "std": []})})
    assert read_contract(proto) == Contract("nchw-float32", (32, 32), ("a", "b"))
    helper.set_model_props(proto, {KEY: json.dumps({**table, "size": [32]})})
    with pytest.raises(Refusal, match="cannot be read"):
        read_contract(proto)


NEWER = ("channels", "range", "resize", "interpolation")


def test_the_shape_is_height_then_width() -> None:
    assert CONTRACT.shape(2) == "images:2x1x48x192"
    assert replace(CONTRACT, layout="nhwc-uint8").shape(1) == "images:1x48x192x1"
    assert CONTRACT.black(2).shape == (2, 48, 192, 1)
    assert CONTRACT.prepare(CONTRACT.black(2)).shape == (2, 1, 48, 192)


def test_bytes_have_one_range_whoever_wrote_the_file() -> None:
    """Or a foreign file could not be compared with ours, which do not name it."""
    ours = Contract("nhwc-uint8", (8, 8), (), "x", "y")
    foreign_file = infer_contract(foreign([FREE, 8, 8, 3], TensorProto.UINT8), "here", Said())
    assert ours.feed() == foreign_file.feed()


@pytest.mark.parametrize(
    ("shape", "kind", "said", "expected"),
    [
        ([FREE, 3, 32, 32], TensorProto.FLOAT, {}, {"size": (32, 32)}),
        ([FREE, 3, 48, 192], TensorProto.FLOAT, {}, {"size": (48, 192)}),
        ([FREE, 3, "h", "w"], TensorProto.FLOAT, {"size": (48, 192)}, {"size": (48, 192)}),
        ([FREE, 1, 28, 28], TensorProto.FLOAT, {"mean": (0.1,), "std": (0.3,)}, {"channels": "grey"}),
        ([FREE, "c", 8, 8], TensorProto.FLOAT, {"channels": "grey"}, {"channels": "grey"}),
        ([FREE, 3, 8, 8], TensorProto.FLOAT, {"channels": "bgr", "range": "0..255"}, {"channels": "bgr"}),
        ([FREE, 8, 8, 3], TensorProto.UINT8, {}, {"range": "0..255", "channels": "rgb"}),
        ([FREE, 8, 9, 1], TensorProto.UINT8, {}, {"size": (8, 9), "channels": "grey"}),
        ([FREE, 3, 8, 8], TensorProto.FLOAT, {"resize": 9, "interpolation": "bicubic"}, {"resize": 9}),
    ],
)
def test_what_a_foreign_file_says(
    shape: list[int | str], kind: int, said: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = infer_contract(foreign(shape, kind), "here", Said(**said))
    assert {name: getattr(found, name) for name in expected} == expected
    assert {name: getattr(found, name) for name in said} == said


@pytest.mark.parametrize(
    ("shape", "kind", "said", "words"),
    [
        (
            [FREE, 3, "h", "w"],
            TensorProto.FLOAT,
            {},
            r"images of any x any; give a fitting --size, as 224 or 48x192",
        ),
        (
            [FREE, 3, 48, 192],
            TensorProto.FLOAT,
            {"size": (192, 48)},
            "images of 48 x 192; give a fitting --size",
        ),
        ([FREE, 4, 8, 8], TensorProto.FLOAT, {}, r"input x is neither float32 \(N,3,H,W\)"),
        ([FREE, 1, 8, 8], TensorProto.FLOAT, {"channels": "bgr"}, "images of 1 channels; --channels bgr"),
        ([FREE, 3, 8, 8], TensorProto.FLOAT, {"channels": "grey"}, "images of 3 channels; --channels grey"),
        (
            [FREE, 3, 8, 8],
            TensorProto.FLOAT,
            {"mean": (0.5,), "std": (0.5,)},
            "--mean has 1 numbers.* want 3",
        ),
        ([FREE, 3, 8, 8], TensorProto.FLOAT, {"mean": (0.5,) * 3}, "--mean and --std go together"),
        ([FREE, 8, 8, 3], TensorProto.UINT8, {"range": "0..1"}, "takes uint8, which is 0..255 as it is"),
        (
            [FREE, 3, 8, 8],
            TensorProto.FLOAT,
            {"mean": (0.5,) * 3, "std": (0.5,) * 3, "range": "-1..1"},
            "leave out --mean and --std",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    shape: list[int | str], kind: int, said: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refusal, match=f"here: .*{words}"):
        infer_contract(foreign(shape, kind), "here", Said(**said))


NAN = float("nan")
ODD: list[dict[str, Any]] = [
    *({"size": value} for value in (-5, 0, "ab", [1.5, 2], [8, 8, 8], [8], [True, 8], [10**9, 10**9], None)),
    *({"classes": value} for value in (3, [1, 2], None)),
    *({"input": value} for value in (7, "nope", None)),
    *({"output": value} for value in (7, "nope", None)),
    *({name: value} for name in ("layout", "channels", "range", "interpolation") for value in ("x", 3, None)),
    *({"mean": value, "std": [1]} for value in (["a"], [NAN], [0, 0, 0], [], 3)),
    *({"mean": [0], "std": value} for value in ([0], [-1], [10**400], None)),
    *({"resize": value} for value in (-3, [1], "x", 2.5, [50, 200, 3])),
    {"more": 1},
]


@pytest.mark.parametrize("change", ODD, ids=lambda one: str(one)[:40])
def test_a_carried_contract_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    proto = foreign([FREE, 1, 48, 192])
    proto.graph.input[0].name = "images"
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [FREE, 2]))
    table = {**asdict(CONTRACT), "mean": [0.5], "std": [0.5]}
    helper.set_model_props(proto, {KEY: json.dumps(table)})
    assert contract_of(proto, "here", Said()) == replace(CONTRACT, std=(0.5,))
    helper.set_model_props(proto, {KEY: json.dumps({**table, **change})})
    with pytest.raises(Refusal):
        contract_of(proto, "here", Said()).decoding.scaled(8, 8)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"size": 8.5}, "size"),
        ({"size": {"a": 1}}, "size"),
        ({"size": [8, 10**9]}, "1 to 16384 pixels"),
        ({"resize": [-1, 8]}, "1 to 16384 pixels"),
        ({"classes": [["a"], "b"]}, "classes"),
        ({"classes": 5}, "classes"),
        ({"interpolation": {"x": 1}}, "interpolation"),
        ({"input": 3}, "input"),
        ({"mean": [float("nan")], "std": [1.0]}, "finite"),
        ({"extra": 1}, "it has no 'extra'"),
    ],
)
def test_a_contract_of_wrong_values_is_refused(changes: dict[str, object], told: str) -> None:
    proto = foreign([FREE, 1, 48, 192])
    helper.set_model_props(proto, {KEY: json.dumps({**asdict(CONTRACT), **changes})})
    with pytest.raises(Refusal, match=told):
        read_contract(proto)


@pytest.mark.parametrize("text", ["[]", "null", "[" * 5000, "{", '"x"'])
def test_what_is_no_contract_is_refused(text: str) -> None:
    proto = foreign([FREE, 1, 48, 192])
    helper.set_model_props(proto, {KEY: text})
    with pytest.raises(Refusal, match="cannot be read"):
        read_contract(proto)
