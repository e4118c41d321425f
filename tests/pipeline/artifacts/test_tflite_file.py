"""The .tflite of a network: equal to torch and to the ONNX file of the same tensors, int8 wherever the grid is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the converter is torch's neighbour")
pytest.importorskip("litert_torch", reason="no converter; pip install 'retort[litert]'")

from torch import nn

from pipeline.artifacts import (
    onnx_file,
    tflite_file,
)
from pipeline.artifacts.comparison import READERS, compare
from pipeline.artifacts.onnx_file import Deployed
from pipeline.quantization.grid import convert
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.devices.connect import open_device
from targets.devices.emulator import home
from targets.errors import Refusal
from targets.runner.backends import backend
from targets.spec.contract import Contract, Layout

OPTIONS = {"threads": 1, "batch": 1, "precision": "int8", "exact": True}
CLASSES = tuple("abcd")


def module(int8: bool, fold: bool) -> nn.Module:
    return convert(tiny.graph(), fold) if int8 else tiny.model(seed=1).eval()


@pytest.mark.parametrize("layout", ["nchw-float32", "nhwc-uint8"])
@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
def test_it_answers_as_the_onnx_file_does(int8: bool, layout: Layout, tmp_path: Path) -> None:
    contract = Contract(layout, (tiny.SIDE, tiny.SIDE), CLASSES)
    lite, twin = tmp_path / "model.tflite", tmp_path / "model.onnx"
    tflite_file.write(Deployed(module(int8, fold=False), layout), contract, int8, lite)
    onnx_file.write(Deployed(module(int8, fold=True), layout), contract, 20, twin)
    pictures = (tiny.pictures(24, seed=7) * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    fed = [contract.prepare(pictures[i : i + 1]) for i in range(24)]
    sessions = [backend(READERS[path.suffix[1:]]).load(str(path), OPTIONS) for path in (lite, twin)]
    found, expected = (
        np.concatenate([session({"images": one})["logits"] for one in fed]) for session in sessions
    )
    assert len(set(expected.argmax(1).tolist())) > 1
    reach = float(np.abs(expected).max())
    assert np.abs(found - expected).max() < (0.05 if int8 else 1e-5) * reach
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.95
    facts = backend("litert").build(str(lite), OPTIONS, str(tmp_path / "engine"))
    # The answers themselves have no grid, so the layer that gives them stays float, as in every runtime.
    floats = {name.split()[0] for name in facts["float_operators"]}
    assert floats == ({"FULLY_CONNECTED"} if int8 else {"CONV_2D", "FULLY_CONNECTED"})
    assert "TRANSPOSE" not in facts["operators"] or layout == "nchw-float32"


def test_a_file_that_parts_from_torch_is_refused(tmp_path: Path) -> None:
    data, contract = tiny.write_set(tmp_path / "set"), Contract("nhwc-uint8", (tiny.SIDE, tiny.SIDE), CLASSES)
    one, other = (
        Deployed(tiny.model(seed=1).eval(), "nhwc-uint8"),
        Deployed(tiny.model(seed=2).eval(), "nhwc-uint8"),
    )
    tflite_file.write(one, contract, False, tmp_path / "model.tflite")
    assert compare(one, tmp_path / "model.tflite", contract, data, "float")["same_answer"] == 1
    with pytest.raises(Refusal, match=r"model\.tflite differs from torch"):
        compare(other, tmp_path / "model.tflite", contract, data, "float")


@pytest.mark.skipif(not home().exists(), reason="not installed; retort emulator install")
def test_an_emulated_phone_answers_to_the_bit_as_this_machine(tmp_path: Path) -> None:
    """LiteRT's int8 kernels are specified to the bit; the last layer, in float, is summed in another order."""
    contract = Contract("nhwc-uint8", (tiny.SIDE, tiny.SIDE), CLASSES)
    lite, pictures = tmp_path / "model.tflite", tmp_path / "pictures.npy"
    tflite_file.write(Deployed(module(True, fold=False), contract.layout), contract, True, lite)
    np.save(pictures, (tiny.pictures(16, seed=7) * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy())
    job = {"backend": "litert", "feed": contract.feed(), "options": OPTIONS, "images": "pictures.npy"}
    found = []
    for name in ("local", "emulator:cortex-a76"):
        with open_device(name) as device:
            device.put(lite, "model.tflite")
            device.put(pictures, "pictures.npy")
            device.run({**job, "do": "build", "model": "model.tflite", "engine": "engine"})
            device.run({**job, "do": "answer", "engine": "engine", "answers": "answers.npy"})
            device.get("answers.npy", tmp_path / f"{len(found)}.npy")
        found.append(np.load(tmp_path / f"{len(found)}.npy"))
    assert np.ptp(found[0]) > 0.1
    assert np.abs(found[0] - found[1]).max() < 1e-5
