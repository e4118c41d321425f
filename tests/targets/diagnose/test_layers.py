"""Layer by layer: what a tensor is on two machines, and which is the first that differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from support import qdq
from support.qdq import regridded
from targets.convert.saturation import bound, saturation
from targets.devices.emulator import home
from targets.diagnose.layers import Parting, exposed, layers, parting, told
from targets.errors import Unmeasurable
from targets.gate.gate import Given
from targets.spec.profile import read_profile

Network = Callable[[str], Path]


def test_every_tensor_is_shown_in_its_order(network: Network, photos: Path) -> None:
    found = layers(Given(network("nchw-float32"), photos, read_profile("cpu")))
    assert [one.name for one in found] == ["c1", "c2", "f", "logits"]
    assert not any(one.apart for one in found), "the same runtime on the same machine"
    assert list(told(found))[-1].startswith("They part nowhere: 4 tensors")


@pytest.mark.skipif(not home().exists(), reason="not installed; retort emulator install")
def test_another_processor_parts_by_rounding_alone(network: Network, photos: Path) -> None:
    given = Given(network("nchw-float32"), photos, read_profile("rpi5"), "emulator:cortex-a76")
    found = layers(given)
    assert all(one.largest < 1e-4 for one in found) and any(one.apart for one in found)
    assert not any(one.differs for one in found)


def test_what_shows_no_tensors_says_so(network: Network, photos: Path) -> None:
    for name in ("android-litert", "jetson"):
        with pytest.raises(Unmeasurable, match=f"{name}: its runtime shows no tensors"):
            layers(Given(network("nchw-float32"), photos, read_profile(name)))


def test_the_first_that_differs_is_marked() -> None:
    same, other = np.zeros(4, np.float32), np.array([0, 0, 0, 2], np.float32)
    found = [
        parting("a", same, same, True),
        parting("b", same, other, True),
        parting("c", other, same, True),
        parting("logits", other, other + np.float32(1e-6), False),
    ]
    assert found[1] == Parting("b", 4, 1, 2.0, 2.0, True)
    rows = list(told(found))
    assert [row.split()[0] for row in rows if "<-" in row] == ["b"]
    assert "25.000%" in rows[2] and "steps" in rows[2] and "steps" not in rows[4]


def test_an_int8_network_shows_its_grids_and_keeps_its_answers() -> None:
    model = regridded(qdq.network(["relu", "add"], 3), "u8")
    opened = exposed(model)
    onnx.checker.check_model(opened, full_check=True)
    grids = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert [value.name for value in opened.graph.output] == ["logits", *grids]
    batch = qdq.images(3)
    np.testing.assert_array_equal(
        qdq.everything(opened, batch)["logits"], qdq.everything(model, batch)["logits"]
    )


@pytest.mark.parametrize(("form", "share"), [("none", 0.0), ("s8", 0.0), ("u8", 1.0), ("u8-narrow", 0.0)])
def test_the_forms_that_could_saturate(form: str, share: float) -> None:
    found = saturation(regridded(qdq.network(["relu", "conv", "relu-add"], 2), form), form)
    assert found["of"] == 5 and found["layers"] == share * found["of"]


def test_small_weights_cannot_saturate() -> None:
    model = regridded(qdq.network(["relu"], 2), "u8")
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.int8 and values.ndim > 1:
            tensor.CopyFrom(numpy_helper.from_array(values // 2, tensor.name))
    assert saturation(model, "u8")["layers"] == 0


def test_the_bound_is_that_of_every_pair() -> None:
    weights = np.random.default_rng(0).integers(-127, 128, (5, 3, 2, 2)).astype(np.int8)
    rows = weights.astype(int).reshape(5, -1)
    pairs = [abs(a + b) for row in rows for i, a in enumerate(row) for b in row[:i]]
    assert bound(weights, 0) == max(pairs)
    turned = np.moveaxis(weights, 0, 1)
    assert bound(turned, 1) == max(pairs)
