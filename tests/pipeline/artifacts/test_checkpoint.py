"""Networks on disk: loaded as they were saved, to the bit; given files are read without running them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="checkpoints are torch's")

from safetensors.torch import save_file
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from torch import Tensor, nn

from pipeline.artifacts import checkpoint
from pipeline.artifacts.checkpoint import Checkpoint, begin, load_weights, read_weights
from pipeline.recipe.schema import Network
from targets.errors import Refusal

FACTORY = """
from pipeline.models.catalogue import CifarResNet
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
        source=str(source),
        classes=tiny.CLASSES,
        size=tiny.SIDE,
        mean=tiny.MEAN,
        std=tiny.STD,
        taps=("layer1", "layer2", "layer3"),
    )


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_what_is_loaded_is_what_was_saved_to_the_bit(
    kind: str, described: Checkpoint, tmp_path: Path
) -> None:
    model = tiny.model(seed=1) if kind == "float" else tiny.graph()
    if kind != "float":
        described = described.edited(edit="quantize")
    checkpoint.save(tmp_path, described, model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.json", "model.safetensors"]
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
    described, model = begin(Network(network="resnet8"), known, {}, "student")
    assert (described.classes, described.size) == (3, tiny.SIDE)
    assert tuple(described.mean) == tiny.MEAN and tuple(described.std) == tiny.STD
    assert tuple(described.taps) == model.taps == ("layer1", "layer2", "layer3")
    assert model(tiny.pictures(2))[0].shape == (2, 3)
    told = Network(network="resnet8", taps=("layer3",), mean=(0.1, 0.2, 0.3), std=(1, 1, 1))
    described, model = begin(told, known, {}, "student")
    assert (model.taps, tuple(described.mean)) == (("layer3",), (0.1, 0.2, 0.3))
    assert model.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    with pytest.raises(Refusal, match=r"student\.taps: no module named 'layer33'; did you mean 'layer3'\?"):
        begin(Network(network="resnet8", taps=("layer33",)), known, {}, "student")


def test_a_beginning_loads_given_weights(tmp_path: Path) -> None:
    known = tiny.write_set(tmp_path).facts
    _, given = begin(Network(network="resnet8"), known, {}, "student")
    save_file(given.network.state_dict(), tmp_path / "given.safetensors")
    torch.manual_seed(9)
    _, model = begin(
        Network(network="resnet8"), known, {"weights": tmp_path / "given.safetensors"}, "student"
    )
    assert tiny.same(tiny.state(given), tiny.state(model)) == []
    with pytest.raises(Refusal, match=r"student\.weights: .*'fc\.weight' is \(3, 64\), .* \(3, 256\)"):
        begin(
            Network(network="resnet8x4", taps=("layer1",)),
            known,
            {"weights": fit_all_but_fc(tmp_path)},
            "student",
        )


def fit_all_but_fc(folder: Path) -> Path:
    """A file of resnet8x4 whose classifier is resnet8's."""
    from pipeline.models.catalogue import NETWORKS

    tensors = NETWORKS["resnet8x4"](classes=3).state_dict()
    tensors["fc.weight"] = torch.zeros(3, 64)
    save_file(tensors, folder / "odd.safetensors")
    return folder / "odd.safetensors"


WRAPPINGS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain.pth": lambda tensors: tensors,
    "nested.pth": lambda tensors: {"state_dict": tensors, "epoch": 3},
    "nested_model.th": lambda tensors: {"model": tensors, "best": 0.5},
    "parallel.pth": lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
    "both.pt": lambda tensors: {"state_dict": {f"module.{k}": v for k, v in tensors.items()}},
    "tensors.safetensors": lambda tensors: tensors,
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_weights_are_read_as_people_have_them(name: str, tmp_path: Path) -> None:
    tensors, path = tiny.state(tiny.network()), tmp_path / name
    write = save_file if name.endswith("safetensors") else torch.save
    write(WRAPPINGS[name](tensors), path)
    torch.manual_seed(7)
    other = tiny.network()
    load_weights(other, path, "here")
    assert tiny.same(tiny.state(other), tensors) == []


def test_a_network_may_call_its_own_part_module(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    given, other = Own(), Own()
    torch.save(given.state_dict(), tmp_path / "own.pth")
    load_weights(other, tmp_path / "own.pth", "here")
    assert tiny.same(tiny.state(other), tiny.state(given)) == []


class Hostile:
    """A pickle that writes a file when it is read as pickles are."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["code.pth", "code.safetensors"])
def test_a_pickle_with_code_is_refused_and_not_run(name: str, tmp_path: Path) -> None:
    torch.save({"state_dict": Hostile(tmp_path / "mark")}, tmp_path / name)
    with pytest.raises(Refusal, match=rf"here: .*{name} cannot be read as weights"):
        read_weights(tmp_path / name, "here")
    assert not (tmp_path / "mark").exists()
    if name.endswith("pth"):
        torch.load(tmp_path / name, weights_only=False)
        assert (tmp_path / "mark").exists(), "the file is not what this test needs"


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_truncated_file_is_refused(name: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(tiny.state(tiny.network()), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(Refusal, match=rf"here: .*{name} cannot be read as weights") as caught:
        read_weights(path, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("holds", [{"epoch": 3}, [1, 2], {"state_dict": {"a": 1}}, {0: torch.zeros(1)}])
def test_what_is_no_table_of_tensors_is_refused(holds: Any, tmp_path: Path) -> None:
    torch.save(holds, tmp_path / "odd.pth")
    with pytest.raises(Refusal, match=r"here: .*odd\.pth holds no table of tensors"):
        read_weights(tmp_path / "odd.pth", "here")


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    network, path = tiny.network(), tmp_path / "given.safetensors"
    before = tiny.state(network)

    def refused(change: Callable[[dict[str, Tensor]], Any], match: str) -> None:
        tensors = {name: tensor + 1 for name, tensor in before.items()}
        change(tensors)
        save_file(tensors, path)
        with pytest.raises(Refusal, match=rf"here: .*given\.safetensors.*{match}"):
            load_weights(network, path, "here")
        assert tiny.same(before, tiny.state(network)) == [], "a refused file changes nothing"

    refused(lambda t: t.pop("layer2.0.bn1.bias"), r"no tensor 'layer2\.0\.bn1\.bias'")
    refused(lambda t: t.update({"aux.weight": torch.ones(1)}), r"1 tensors? too many, such as 'aux\.weight'")
    refused(lambda t: t.update({"fc.bias": torch.ones(9)}), r"'fc\.bias' is \(9,\), .* wants \(4,\)")


def test_half_precision_and_missing_counters_are_taken(tmp_path: Path) -> None:
    network, path = tiny.network(), tmp_path / "half.safetensors"
    halves = {k: v.half() for k, v in tiny.state(network).items() if not k.endswith("num_batches_tracked")}
    save_file(halves, path)
    load_weights(network, path, "here")
    assert network.conv1.weight.dtype == torch.float32
    assert torch.equal(network.conv1.weight, halves["conv1.weight"].float())
