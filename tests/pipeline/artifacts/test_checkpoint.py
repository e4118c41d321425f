"""Networks on disk: loaded as they were saved, to the bit; given files are read without running them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="checkpoints are torch's")

from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.artifacts import checkpoint
from pipeline.artifacts.checkpoint import Checkpoint, begin
from pipeline.data import decoded
from pipeline.models.cifar import NETWORKS
from pipeline.recipe.schema import Network
from pipeline.user_code import code_files
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal

FACTORY = """
from pipeline.models.cifar import CifarResNet
def narrow(classes, widths): return CifarResNet(8, tuple(widths), classes)
"""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """What ``tiny.model`` is, as a user's factory makes it."""
    source = tmp_path_factory.mktemp("recipe") / "mine.py"
    source.write_text(FACTORY)
    return Checkpoint(
        network="mine:narrow",
        arguments={"widths": list(tiny.NARROW)},
        classes=tiny.CLASSES,
        shape=tiny.SHAPE,
        mean=tiny.MEAN,
        std=tiny.STD,
        taps=("layer1", "layer2", "layer3"),
        head="fc",
        exact=True,
        files={"code/mine.py": source},
    )


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_what_is_loaded_is_what_was_saved_to_the_bit(
    kind: str, described: Checkpoint, tmp_path: Path
) -> None:
    model = tiny.model(seed=1) if kind == "float" else tiny.graph()
    if kind != "float":
        described = described.edited(edit="quantize")
    checkpoint.save(tmp_path, described, model)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint.json",
        "code",
        "model.safetensors",
    ]
    loaded = checkpoint.load(tmp_path)
    images = tiny.pictures(9, seed=5)
    with torch.no_grad():
        expected, found = model(images), loaded(images)
        again = loaded(images[:1])
    assert tiny.same(tiny.state(model), tiny.state(loaded)) == []
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)
    assert torch.allclose(again[0], expected[0][:1], atol=0.05), "an image's answer hangs on its neighbours"
    raw = json.loads((tmp_path / "checkpoint.json").read_text())
    assert [edit["edit"] for edit in raw["edits"]] == ([] if kind == "float" else ["quantize"])
    assert checkpoint.read(tmp_path).arguments == {"widths": list(tiny.NARROW)}


def test_a_loaded_network_is_at_rest(described: Checkpoint, tmp_path: Path) -> None:
    for kind, model in (("float", tiny.model(seed=1)), ("int8", tiny.graph())):
        folder = tmp_path / kind
        folder.mkdir()
        checkpoint.save(folder, described.edited(edit="quantize") if kind == "int8" else described, model)
        loaded = checkpoint.load(folder)
        before = tiny.state(loaded)
        loaded(5 * tiny.pictures(4, seed=8))
        assert tiny.same(before, tiny.state(loaded)) == [], kind


class Tied(nn.Module):
    """Two layers with one weight."""

    taps = ("first",)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
        self.second.weight = self.first.weight
        self.fc = nn.Linear(3, tiny.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.first(x)).mean((2, 3)))  # type: ignore[no-any-return]


def test_a_network_with_shared_tensors_is_saved(described: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, described, tiny.wrap(Tied(), tiny.SIDE))
    assert (tmp_path / "model.safetensors").stat().st_size > 0


def test_a_beginning_takes_the_data_s_facts_unless_told(tmp_path: Path) -> None:
    known = tiny.write_set(tmp_path).facts
    begun = begin(Network(network="resnet8"), known, {}, "student")
    described, model = begun.checkpoint, begun.model
    assert (described.classes, described.shape) == (3, tiny.SHAPE)
    assert tuple(described.mean) == tiny.MEAN and tuple(described.std) == tiny.STD
    assert tuple(described.taps) == model.taps == ("layer1", "layer2", "layer3")
    assert model(tiny.pictures(2))[0].shape == (2, 3)
    told = Network(network="resnet8", taps=("layer3",), mean=(0.1, 0.2, 0.3), std=(1, 1, 1))
    begun = begin(told, known, {}, "student")
    assert (begun.model.taps, tuple(begun.checkpoint.mean)) == (("layer3",), (0.1, 0.2, 0.3))
    assert begun.model.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    with pytest.raises(Refusal, match=r"student\.taps: no module named 'layer33'; did you mean 'layer3'\?"):
        begin(Network(network="resnet8", taps=("layer33",)), known, {}, "student")


def test_a_beginning_loads_given_weights(tmp_path: Path) -> None:
    known, file = tiny.write_set(tmp_path).facts, tmp_path / "given.safetensors"
    given = begin(Network(network="resnet8"), known, {}, "student").model
    save_file(given.network.state_dict(), file)
    torch.manual_seed(9)
    begun = begin(Network(network="resnet8"), known, {"weights": file}, "student")
    assert tiny.same(tiny.state(given), tiny.state(begun.model)) == []
    assert begun.given == {
        "taken": len(given.network.state_dict()),
        "of": len(given.network.state_dict()),
        "new": {},
    }


def test_weights_of_other_classes_give_all_but_the_head(tmp_path: Path) -> None:
    known, file = tiny.write_set(tmp_path).facts, tmp_path / "thousand.pth"
    thousand = NETWORKS["resnet8"](classes=1000)
    torch.save(thousand.state_dict(), file)
    begun = begin(Network(network="resnet8"), known, {"weights": file}, "student")
    assert begun.fitted is not None and begun.fitted.new == {"fc": "1000 classes, here 3"}
    assert tiny.same(tiny.state(thousand), tiny.state(begun.model.network)) == ["fc.weight", "fc.bias"]
    with pytest.raises(
        Refusal, match=r"student\.weights: .*thousand\.pth: .*'conv1\.weight' is \(16, .* \(32, "
    ):
        begin(Network(network="resnet8x4", taps=("layer1",)), known, {"weights": file}, "student")


def test_a_checkpoint_is_loaded_after_the_user_s_files_are_gone(tmp_path: Path) -> None:
    """The code that it was trained with, not what stands there now; arguments that name files too."""
    known = tiny.write_set(tmp_path / "set").facts
    (tmp_path / "own" / "parts").mkdir(parents=True)
    (tmp_path / "own" / "parts" / "__init__.py").write_text("")
    (tmp_path / "own" / "parts" / "body.py").write_text(
        "from torch import nn\nbody = lambda w: nn.Conv2d(3, w, 3, 2)\n"
    )
    code = """
import json
from torch import nn
from .body import body
def build(num_classes, config):
    width = json.load(open(config))["width"]
    return nn.Sequential(body(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
"""
    (tmp_path / "own" / "parts" / "net.py").write_text(code)
    (tmp_path / "own" / "size.json").write_text(json.dumps({"width": 6}))
    section = Network(network="parts.net:build", arguments={"config": "arguments/0.json"})
    files = code_files("parts.net:build", tmp_path / "own")
    assert sorted(files) == ["parts/__init__.py", "parts/body.py", "parts/net.py"]
    inputs = {f"code/{name}": path for name, path in files.items()}
    inputs["arguments/0.json"] = tmp_path / "own" / "size.json"
    begun = begin(section, known, inputs, "student")
    kept = tmp_path / "kept"
    kept.mkdir()
    checkpoint.save(kept, begun.checkpoint, begun.model)
    shutil.rmtree(tmp_path / "own")
    loaded, images = checkpoint.load(kept), tiny.pictures(3)
    with torch.no_grad():
        assert torch.equal(loaded(images)[0], begun.model.eval()(images)[0])
    again = tmp_path / "again"
    again.mkdir()
    checkpoint.save(again, checkpoint.read(kept), loaded)
    assert (again / "code" / "parts" / "net.py").read_text() == code


def test_what_an_older_retort_wrote_of_square_images_is_read(described: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, described, tiny.model())
    table = json.loads((tmp_path / "checkpoint.json").read_text())
    assert table.pop("shape") == list(tiny.SHAPE)
    (tmp_path / "checkpoint.json").write_text(json.dumps({**table, "size": tiny.SIDE}))
    assert checkpoint.read(tmp_path).shape == tiny.SHAPE
    data = tiny.write_set(tmp_path / "set")
    table = json.loads((tmp_path / "set" / "data.json").read_text())
    del table["decoding"]
    (tmp_path / "set" / "data.json").write_text(json.dumps({**table, "size": tiny.SIDE}))
    assert decoded.read(tmp_path / "set").facts == data.facts
