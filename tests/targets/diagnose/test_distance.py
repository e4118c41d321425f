"""The distance of an int8 file's tensors from the float file's: on known arrays, and on small networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from support.endless import endless
from targets.diagnose.distance import Distance, decibels, distances, first_bad
from targets.errors import Refusal, Unmeasurable
from targets.gate.gate import Given
from targets.quantize import calibrate
from targets.spec.profile import read_profile

Network = Callable[[str], Path]


def test_decibels_are_those_of_the_definition() -> None:
    x = np.array([3.0, -4.0])
    assert decibels(x, x) == math.inf
    assert decibels(x, x + np.array([0.3, 0.4])) == pytest.approx(20)
    assert decibels(x, np.zeros(2)) == pytest.approx(0)
    assert decibels(np.zeros(2), x) == -math.inf


def test_the_first_bad_one_is_the_first_and_not_the_worst() -> None:
    row = [Distance("a", "Conv", 30.0), Distance("b", "Conv", 9.0), Distance("c", "Conv", 1.0)]
    assert first_bad(row) is row[1] and first_bad(row[:1]) is None


@pytest.mark.parametrize("target", ["cpu", "openvino", "rpi5"])
def test_each_layer_is_near_float_on_each_runtime(target: str, network: Network, photos: Path) -> None:
    found, apart = distances(Given(network("nchw-float32"), photos, read_profile(target)))
    assert found.int8 == len(found.heavy) == 3
    shown = {one.kind for one in apart}
    assert {"Relu", "Gemm"} <= shown and all(one.db > 25 for one in apart)
    assert apart[-1].kind == "Gemm", "the answers come last"


def test_a_layer_that_int8_ruins_is_the_first_below_the_mark(network: Network, photos: Path) -> None:
    """One channel is a thousand times the others: in bytes these are nothing, and the next layer reads them alone."""
    model = onnx.load(path := network("nchw-float32"))
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if tensor.name in ("w1", "b1"):
            values[0] *= 1000
        if tensor.name == "w2":
            values[:, 0] = 0
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    _, apart = distances(Given(path, photos, read_profile("cpu")))
    bad = first_bad(apart)
    assert bad is not None and apart.index(bad) < len(apart) - 1
    assert bad.db < 10 and {one.kind for one in apart[: apart.index(bad)]} <= {"Relu"}


def test_what_cannot_be_compared_is_refused(network: Network, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(Unmeasurable, match="shows no tensors on the way"):
        distances(Given(network("nchw-float32"), photos, read_profile("jetson")))
    (tmp_path / "few").mkdir()
    (photos / "kind0" / "0.png").rename(tmp_path / "few" / "0.png")
    with pytest.raises(Refusal, match="1 images; at least 8"):
        distances(Given(network("nchw-float32"), tmp_path / "few", read_profile("cpu")))


def test_a_file_that_takes_no_images_is_pointed_to_the_way_without(photos: Path, tmp_path: Path) -> None:
    from support.qdq import Net

    net = Net(0)
    onnx.save(net.model(net.op("Identity", "images"), ["batch", 4, 8, 8]), tmp_path / "four.onnx")
    with pytest.raises(Refusal, match="leave --images out"):
        distances(Given(tmp_path / "four.onnx", photos, read_profile("cpu")))


def test_an_answer_that_never_comes_is_not_waited_for(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless(tmp_path / "endless.onnx")
    monkeypatch.setattr(calibrate, "PATIENCE_S", 0.2)
    with pytest.raises(Unmeasurable, match=r"no answer within 0\.2 s"):
        distances(Given(tmp_path / "endless.onnx", photos, read_profile("cpu")))
