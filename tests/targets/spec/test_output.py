"""What a file answers: what is no row of classes an image is refused before an image is read."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from targets.errors import Refusal
from targets.spec.contract import NOTHING, Said, contract_of
from targets.spec.output import check_batch

LOGITS = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])


def answering(*outputs: onnx.ValueInfoProto, batch: int | str = "n") -> onnx.ModelProto:
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 8, 8])
    return helper.make_model(helper.make_graph([], "net", [image], outputs))


def tensor(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


SEQUENCE = helper.make_tensor_sequence_value_info("all", TensorProto.FLOAT, None)


@pytest.mark.parametrize(
    ("outputs", "said", "words"),
    [
        ([tensor("y", "n")], None, r"answers of shape \(n\); one row"),
        ([tensor("y", "n", 5, 1, 1)], None, r"answers of shape \(n, 5, 1, 1\); one row"),
        ([tensor("y", "n", 5, 8, 8)], None, r"answers of shape \(n, 5, 8, 8\); one row"),
        ([tensor("y", "n", 5, kind=TensorProto.INT64)], None, "y is of int64, so no logits"),
        ([SEQUENCE], None, "all is no tensor but a sequence_type"),
        ([tensor("f", "n", 8), LOGITS], None, r"2 outputs \(f, logits\); say which .* --output logits"),
        ([LOGITS], "logit", "no output named 'logit'; did you mean 'logits'"),
    ],
)
def test_what_is_no_row_of_classes_an_image_is_refused(
    outputs: list[onnx.ValueInfoProto], said: str | None, words: str
) -> None:
    with pytest.raises(Refusal, match=f"here: .*{words}"):
        contract_of(answering(*outputs), "here", Said(output=said))


def test_the_named_one_of_several_is_judged() -> None:
    file = answering(tensor("f", "n", 8), LOGITS)
    assert contract_of(file, "here", Said(output="logits")).output == "logits"
    assert contract_of(file, "here", Said(output="f")).output == "f"
    anything = helper.make_tensor_value_info("any", TensorProto.FLOAT, None)
    assert contract_of(answering(anything), "here", NOTHING).output == "any"


def test_a_file_of_one_size_of_batch_is_asked_no_other() -> None:
    for batch in ("n", 0, 4):
        check_batch(answering(LOGITS, batch=batch), "images", 4, "here")
    with pytest.raises(Refusal, match=r"here: takes batches of 8 .*; .* batch = 8 in a target's profile"):
        check_batch(answering(LOGITS, batch=8), "images", 4, "here")
