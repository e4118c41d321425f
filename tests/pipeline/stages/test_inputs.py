"""Images that are neither square nor in colour, through every step of the line: decoded, trained, exported, gated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="the networks are torch's")

from PIL import Image

from pipeline.artifacts import checkpoint
from pipeline.artifacts.onnx_file import Deployed, contract_for, write
from pipeline.data import decoded
from pipeline.engine.job import Job
from pipeline.pruning.channels import cuts
from pipeline.quantization.grid import convert
from pipeline.quantization.ptq import calibrated
from pipeline.recipe.data import Data
from pipeline.recipe.schema import Distill, Network
from pipeline.schemes.base import Setup
from pipeline.schemes.offline import offline
from pipeline.stages import decode
from pipeline.training import loop
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal
from targets.gate.gate import Given, gate
from targets.limits import read_budgets
from targets.spec.contract import Contract, Said, read_contract
from targets.spec.profile import Profile

PLATES = {"size": [16, 48], "resize": [18, 54], "channels": "grey", "test": 0.3}
SHOWN = {"cutmix": 1.0, "crop_scale": [0.5, 1.0], "jitter": 0.2, "erasing": 0.2, "trivialaugment": True}
QUICK = Profile(name="quick", about="", backend="onnxruntime", seconds=0.5)
FACTORY = """
from torch import nn

def build(classes, in_channels=3):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )
"""


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plates with a bright bar of one of three widths."""
    root, random = tmp_path_factory.mktemp("plates"), np.random.default_rng(0)
    for label in range(3):
        (root / f"kind{label}").mkdir(parents=True)
        for number in range(12):
            image = random.integers(0, 90, (20, 70, 3), dtype=np.uint8)
            image[4:16, 10 : 20 + 18 * label] = 250
            Image.fromarray(image).save(root / f"kind{label}" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def data(plates: Path, tmp_path_factory: pytest.TempPathFactory) -> decoded.Decoded:
    out = tmp_path_factory.mktemp("out")
    settings = Data.model_validate({"folder": plates, **PLATES}).model_dump(mode="json")
    decode.run(Job(settings, {}, {"folder": plates}, out, tmp_path_factory.mktemp("scratch")))
    return decoded.read(out)


Begin = Callable[[str], checkpoint.Begun]


@pytest.fixture(scope="module")
def begin(data: decoded.Decoded, tmp_path_factory: pytest.TempPathFactory) -> Begin:
    """A network of a recipe, built for these images."""
    code = tmp_path_factory.mktemp("code") / "code" / "mine.py"
    code.parent.mkdir()
    code.write_text(FACTORY)

    def begun(name: str) -> checkpoint.Begun:
        torch.manual_seed(0)
        inputs = {"code/mine.py": code} if ":" in name else {}
        return checkpoint.begin(Network(network=name, mean=(0.4,), std=(0.3,)), data.facts, inputs, "here")

    return begun


def accuracy(file: Path, plates: Path, out: Path, said: Said) -> Any:
    table = gate(Given(file, plates, QUICK, said=said), read_budgets(["accuracy=1"]), out)
    (one,) = table["targets"][0]["candidates"].values()
    return one["accuracy"]


def test_wide_grey_images_go_the_whole_line(
    data: decoded.Decoded, begin: Begin, plates: Path, tmp_path: Path
) -> None:
    begun = begin("mine:build")
    assert begun.checkpoint.shape == (1, 16, 48) and begun.checkpoint.taps == ("1", "3")
    teacher = begin("resnet8").model
    recipe = Distill.model_validate(
        {"epochs": 3, "batch": 12, "lr": 0.05, **SHOWN, "loss": [{"name": "kd"}, {"name": "at"}]}
    )
    scheme = offline(Setup(begun.model, begun.model, [teacher], data, recipe, "distill", tmp_path))
    loop.fit(scheme, data, recipe.training, tmp_path, "distill")
    checkpoint.save(tmp_path, begun.checkpoint, begun.model)
    trained = checkpoint.load_model(tmp_path)
    contract = contract_for("nchw-float32", data.facts)
    write(Deployed(trained, contract.layout), contract, 20, tmp_path / "float.onnx")
    grid = calibrated(trained, data, 8)
    write(
        Deployed(convert(grid), "nhwc-uint8"),
        contract_for("nhwc-uint8", data.facts),
        20,
        tmp_path / "int8.onnx",
    )
    proto = onnx.load(tmp_path / "float.onnx")
    assert read_contract(proto) == contract
    assert contract == Contract(
        "nchw-float32", (16, 48), data.facts.classes, channels="grey", resize=(18, 54)
    )
    dims = [
        [
            dim.dim_value
            for dim in onnx.load(tmp_path / f"{name}.onnx").graph.input[0].type.tensor_type.shape.dim
        ]
        for name in ("float", "int8")
    ]
    assert [one[1:] for one in dims] == [[1, 16, 48], [16, 48, 1]]
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "plain.onnx")
    # What the contract says, and the same said of a file that carries none.
    own = accuracy(tmp_path / "float.onnx", plates, tmp_path / "a", Said())
    said = Said(size=(16, 48), resize=(18, 54))
    assert accuracy(tmp_path / "plain.onnx", plates, tmp_path / "b", said) == own
    accuracy(tmp_path / "int8.onnx", plates, tmp_path / "c", Said())
    assert next(cuts(trained, data.facts.shape, "magnitude", 1, None)) < 1


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "timm/resnet18", "mine:build"])
def test_networks_take_one_channel(begin: Begin, name: str, tmp_path: Path) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm", reason="an optional catalogue")
    begun = begin(name)
    answer = begun.model(torch.rand(2, 1, 16, 48))
    assert answer[0].shape == (2, 3) and len(answer) > 2
    assert all(level.shape[3] == 3 * level.shape[2] for level in answer[2:]), (
        "maps in the image's proportions"
    )
    checkpoint.save(tmp_path, begun.checkpoint, begun.model)
    begun.model.eval(), begun.model.network.eval()
    assert torch.equal(
        checkpoint.load(tmp_path)(torch.ones(1, 1, 16, 48))[0], begun.model(torch.ones(1, 1, 16, 48))[0]
    )


def test_what_cannot_take_one_channel_is_refused(data: decoded.Decoded, begin: Begin) -> None:
    with pytest.raises(
        Refusal, match="here: resnet18 cannot be made: torchvision's networks take 3 channels, not 1"
    ):
        begin("resnet18")
    three = Network(network="resnet8", mean=(0.4, 0.4, 0.4), std=(0.3,))
    with pytest.raises(Refusal, match=r"here\.mean: 3 numbers; the images have 1 channels"):
        checkpoint.begin(three, data.facts, {}, "here")
