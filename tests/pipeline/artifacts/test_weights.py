"""Given weights: read as tools write them without running any of it, and fitted to a network."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="weights are torch's")

from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.artifacts.weights import Fitted, fit, read_weights
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal


def load(network: nn.Module, path: Path, *heads: str) -> Fitted:
    return fit(network, read_weights(path, "here"), set(heads), f"here: {path.name}")


WRAPPINGS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain.pth": lambda tensors: tensors,
    "nested.pth": lambda tensors: {"state_dict": tensors, "epoch": 3},
    "nested_model.th": lambda tensors: {"model": tensors, "best": 0.5},
    "parallel.pth": lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
    "both.pt": lambda tensors: {"state_dict": {f"module.{k}": v for k, v in tensors.items()}},
    "lightning.ckpt": lambda tensors: {
        "state_dict": {f"model.{k}": v for k, v in tensors.items()} | {"loss.weight": torch.ones(3)},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(2)}}}],
        "hyper_parameters": {"lr": 0.1},
    },
    "compiled.pt": lambda tensors: {f"_orig_mod.{k}": v for k, v in tensors.items()},
    "compiled_part.pt": lambda tensors: {
        k.replace("layer1.", "layer1._orig_mod."): v for k, v in tensors.items()
    },
    "compiled_parallel.pt": lambda tensors: {f"module._orig_mod.{k}": v for k, v in tensors.items()},
    "compiled_lightning.pt": lambda tensors: {
        "state_dict": {f"model._orig_mod.{k}": v for k, v in tensors.items()}
    },
    "trainer.pt": lambda tensors: {
        "model_state_dict": tensors,
        "optimizer_state_dict": {"state": {}},
        "loss": 0.3,
    },
    "net.pt": lambda tensors: {"net": tensors, "acc": 91.2, "epoch": 7},
    "average.pt": lambda tensors: {"model": {k: v * 0 for k, v in tensors.items()}, "ema": tensors},
    "reference.pth": lambda tensors: {"model": tensors, "optimizer": {}, "args": argparse.Namespace(lr=0.5)},
    "tensors.safetensors": lambda tensors: tensors,
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_weights_are_read_as_people_have_them(name: str, tmp_path: Path) -> None:
    tensors, path = tiny.state(tiny.network()), tmp_path / name
    write = save_file if name.endswith("safetensors") else torch.save
    write(WRAPPINGS[name](tensors), path)
    torch.manual_seed(7)
    other = tiny.network()
    load(other, path)
    assert tiny.same(tiny.state(other), tensors) == []


def test_a_network_may_call_its_own_part_module(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    given, other = Own(), Own()
    torch.save(given.state_dict(), tmp_path / "own.pth")
    load(other, tmp_path / "own.pth")
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
            load(network, path)
        assert tiny.same(before, tiny.state(network)) == [], "a refused file changes nothing"

    refused(lambda t: t.pop("layer2.0.bn1.bias"), r"no tensor 'layer2\.0\.bn1\.bias'")
    refused(lambda t: t.update({"aux.weight": torch.ones(1)}), r"1 tensors? too many, such as 'aux\.weight'")
    refused(lambda t: t.update({"fc.bias": torch.ones(9)}), r"'fc\.bias' is \(9,\), .* wants \(4,\)")


def test_half_precision_and_missing_counters_are_taken(tmp_path: Path) -> None:
    network, path = tiny.network(), tmp_path / "half.safetensors"
    halves = {k: v.half() for k, v in tiny.state(network).items() if not k.endswith("num_batches_tracked")}
    save_file(halves, path)
    load(network, path)
    assert network.conv1.weight.dtype == torch.float32
    assert torch.equal(network.conv1.weight, halves["conv1.weight"].float())


def test_shards_are_read_by_their_index_and_from_no_other_folder(tmp_path: Path) -> None:
    tensors = tiny.state(tiny.network())
    names, index = sorted(tensors), tmp_path / "model.safetensors.index.json"
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, tmp_path / file)
    index.write_text(
        json.dumps({"weight_map": {name: file for file, part in parts.items() for name in part}})
    )
    other = tiny.network()
    assert load(other, index).taken == len(tensors)
    assert tiny.same(tiny.state(other), tensors) == []
    index.write_text(json.dumps({"weight_map": {"fc.bias": "../one.safetensors"}}))
    with pytest.raises(Refusal, match="names files outside its folder"):
        read_weights(index, "here")


def test_a_whole_model_s_pickle_is_refused_with_the_mend(tmp_path: Path) -> None:
    torch.save(tiny.network(), tmp_path / "whole.pth")
    with pytest.raises(
        Refusal, match=r"not run: save torch\.save\(network\.state_dict\(\), FILE\)"
    ) as caught:
        read_weights(tmp_path / "whole.pth", "here")
    assert "\n" not in str(caught.value)


def test_a_head_of_other_classes_stays_new_and_no_other_layer(tmp_path: Path) -> None:
    network, path = tiny.network(), tmp_path / "other.pth"
    before = tiny.state(network)
    torch.save(tiny.state(tiny.network(classes=10)), path)
    found = load(network, path, "fc")
    assert found.new == {"fc": "10 classes, here 4"} and found.taken == found.of - 2
    assert torch.equal(network.fc.weight, before["fc.weight"])
    with pytest.raises(Refusal, match=r"'fc\.weight' is \(10, 20\), the network wants \(4, 20\)"):
        load(tiny.network(), path)


def test_names_of_both_sides_are_shown(tmp_path: Path) -> None:
    torch.save({"backbone.weight": torch.ones(1)}, tmp_path / "alien.pth")
    with pytest.raises(Refusal, match=r"only in the file: .*weight; only in the network: bn1\.bias, "):
        load(tiny.network(), tmp_path / "alien.pth")
