"""A baseline whose tensors have other names is timed under the candidate's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from targets.baselines.baseline import baseline_file, renamed
from targets.errors import Refusal
from targets.spec.contract import Contract

CONTRACT = Contract("nchw-float32", (8, 8), tuple("abcde"))


def answers(file: onnx.ModelProto | Path, output: str) -> object:
    content = file.SerializeToString() if isinstance(file, onnx.ModelProto) else str(file)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    images = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)
    return session.run([output], {name: images})[0]


@pytest.mark.parametrize(
    "names",
    [
        {"images": "input.1", "logits": "495"},
        {"images": "logits", "logits": "images"},  # exchanged
        {"images": "w1", "logits": "f"},  # names of others of its tensors
    ],
)
def test_other_names_are_the_same_network(
    names: dict[str, str], small_network: Callable[[str], Path], tmp_path: Path
) -> None:
    ours = onnx.load(small_network("nchw-float32"))
    del ours.graph.output[0]  # its features
    theirs = renamed(ours, names)
    onnx.checker.check_model(theirs, full_check=True)
    np.testing.assert_array_equal(answers(theirs, names["logits"]), answers(ours, "logits"))
    onnx.save(theirs, tmp_path / "theirs.onnx")
    (tmp_path / "work").mkdir()
    file = baseline_file(tmp_path / "theirs.onnx", CONTRACT, tmp_path / "work")
    np.testing.assert_array_equal(answers(file, "logits"), answers(ours, "logits"))


def test_a_baseline_of_several_outputs_is_asked_for_the_candidate_s(
    small_network: Callable[[str], Path], tmp_path: Path
) -> None:
    path = small_network("nchw-float32")
    assert baseline_file(path, CONTRACT, tmp_path) == path
    onnx.save(renamed(onnx.load(path), {"logits": "other"}), path)
    with pytest.raises(Refusal, match=r"--baseline .*2 outputs \(f, other\)"):
        baseline_file(path, CONTRACT, tmp_path)
