"""A file is asked twice, in two processes: what answers by chance proves nothing; and batches are always full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import targets.gate.gate
from support.verdicts import FAIL, answers, judged, measured
from targets.devices.base import Local
from targets.errors import FAILED, PASSED, Refusal
from targets.gate.gate import Given, gate, lock
from targets.limits import Budgets
from targets.measuring.bench import Bench
from targets.measuring.candidate import Candidate, Measurement
from targets.measuring.measure import changed_answers
from targets.spec.contract import Contract
from targets.spec.profile import Profile

QUICK = Profile(name="quick", about="", backend="onnxruntime", seconds=0.25)
LOOSE = Budgets({"agreement": 1, "accuracy": 1})


def random(model: Path, kind: str, path: Path) -> Path:
    """The network with an operator at its end that draws anew each time."""
    proto = onnx.load(model)
    for node in proto.graph.node:
        node.output[:] = ["plain" if name == "logits" else name for name in node.output]
    if kind == "Dropout":
        constants = {"share": np.array(0.5, np.float32), "training": np.array(True)}
        nodes = [helper.make_node("Dropout", ["plain", *constants], ["logits"])]
    else:
        constants = {"none": np.array(1e-20, np.float32)}
        nodes = [
            helper.make_node("RandomNormalLike", ["plain"], ["noise"], dtype=TensorProto.FLOAT),
            helper.make_node("Add", ["plain", "noise"], ["logits"]),
        ]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("kind", ["Dropout", "RandomNormalLike"])
def test_a_random_network_answers_otherwise_in_another_process(
    kind: str, network: Callable[[str], Path], small_images: NDArray[np.uint8], tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", small_images)
    for model, changed in (
        (random(network("nchw-float32"), kind, tmp_path / "random.onnx"), len(small_images)),
        (network("nchw-float32"), 0),
    ):
        (work := tmp_path / model.stem).mkdir()
        (work / "device").mkdir()
        place = Local(work / "device"), QUICK, Contract("nchw-float32", (8, 8), ())
        bench, one = Bench(*place, tmp_path / "images.npy", work), Candidate("one", model, "float32")
        bench.build(one)
        assert changed_answers(bench.ask(one)[0], bench.ask_again(one)) == changed


def test_a_random_network_never_passes_nor_is_it_locked(
    network: Callable[[str], Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Given(random(network("nchw-float32"), "Dropout", tmp_path / "random.onnx"), photos, QUICK)
    found: list[Measurement] = []
    measuring = targets.gate.gate.measured

    def kept(*words: Any) -> Measurement:
        found.append(measuring(*words))
        return found[-1]

    monkeypatch.setattr(targets.gate.gate, "measured", kept)
    table = gate(given, LOOSE, tmp_path / "report")
    (line,) = (line for line in table["targets"][0]["lines"] if line["budget"] == "repeatable")
    assert (table["status"], line["outcome"]) == (FAILED, "FAIL")
    assert line["note"].endswith("images are answered otherwise when asked again in another process")
    monkeypatch.setattr(targets.gate.gate, "measured", lambda *words: found[0])
    with pytest.raises(Refusal, match=r"answered otherwise .*; it is not accepted"):
        lock(given, tmp_path / "retort.lock")


def test_a_batch_above_the_images_is_full_and_counts_once(
    photos: Path, network: Callable[[str], Path]
) -> None:
    """Ten images in batches of 64: the file takes no other, and as many images as were computed are told."""
    proto = onnx.load(path := network("nchw-float32"))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 64
    for value in proto.graph.output:
        value.type.tensor_type.shape.dim[0].dim_value = 64
    onnx.save(proto, path)
    full = QUICK.model_copy(update={"batch": 64})
    table = gate(Given(path, photos, full), LOOSE, photos.parent / "report")
    assert table["status"] in (PASSED, FAILED) and table["test_images"] == 10
    with pytest.raises(Refusal, match=r"takes batches of 64 images and no other, and 1 would"):
        gate(Given(path, photos, QUICK), LOOSE, photos.parent / "report")


def test_rounding_is_no_change_and_what_is_no_number_is_itself() -> None:
    first = np.array([[1000, 0], [1, 2], [np.nan, np.inf]], np.float32)
    assert changed_answers(first, first) == 0
    assert changed_answers(first, first + np.float32(1e-3)) == 0
    assert changed_answers(first, first + np.array([[0.1, 0], [0, 0], [0, 0]], np.float32)) == 1
    assert changed_answers(first, first[:1] + np.float32(0.1)) == 1
    assert changed_answers(first, np.zeros_like(first)) == 3


def test_whatever_the_budgets_a_changed_answer_fails() -> None:
    found = judged({}, {"model": measured(answers([]), unsteady=3)})
    assert found.status == FAILED and [line.outcome for line in found.lines] == [FAIL]
