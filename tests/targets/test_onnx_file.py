"""An ONNX file whose tensors lie in other files: these are locked with it, and looked at before it is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.external_data_helper
import pytest
from onnx import helper, numpy_helper

from benchmarks.gate.repository import git
from targets.baselines.lock import accepted, lock_of, write_lock
from targets.errors import Refusal
from targets.onnx_file import external_files, load
from targets.provenance.manifest import write_manifest


@pytest.fixture
def folder(small_network: Callable[[str], Path], tmp_path: Path) -> Path:
    """A git repository with a file of which all tensors lie in another, and its lock."""
    made = tmp_path / "repository"
    (made / "net").mkdir(parents=True)
    proto = onnx.load(small_network("nchw-float32"))
    onnx.save(proto, made / "net" / "a.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    write_lock(lock_of(made / "net" / "a.onnx", made / "retort.lock"), made / "retort.lock")
    git(made, "init", "--quiet")
    git(made, "add", ".")
    git(made, "commit", "--quiet", "-m", "accept")
    return made


def weights(path: Path) -> list[bytes]:
    return [numpy_helper.to_array(one).tobytes() for one in load(path).graph.initializer]


def test_a_change_of_the_data_is_a_change_of_the_accepted_file(folder: Path, tmp_path: Path) -> None:
    lock, data = folder / "retort.lock", folder / "net" / "w.bin"
    assert list(json.loads(lock.read_text())["data"]) == ["w.bin"]
    assert accepted(lock, tmp_path / "1") == folder / "net" / "a.onnx"
    before = weights(folder / "net" / "a.onnx")
    data.write_bytes(bytes(data.stat().st_size))
    assert weights(folder / "net" / "a.onnx") != before
    found = accepted(lock, tmp_path / "2")
    assert found.is_relative_to(tmp_path / "2") and weights(found) == before, "as git has it"
    (folder / "net" / "a.onnx").unlink()
    assert weights(accepted(lock, tmp_path / "3")) == before
    (folder / ".git").rename(tmp_path / "gone")
    with pytest.raises(Refusal, match=r"the accepted a\.onnx .* is neither here nor in git"):
        accepted(lock, tmp_path / "4")


@pytest.mark.parametrize("name", ["../w.bin", "/w.bin", "x/../../w.bin"])
def test_a_lock_names_nothing_outside_the_model_s_folder(name: str, folder: Path, tmp_path: Path) -> None:
    raw = json.loads((folder / "retort.lock").read_text())
    raw["data"] = {name: raw["data"]["w.bin"]}
    (folder / "retort.lock").write_text(json.dumps(raw))
    with pytest.raises(Refusal, match="lies outside the model's folder"):
        accepted(folder / "retort.lock", tmp_path)


def test_the_data_is_compared_with_the_manifest_beside_it(folder: Path) -> None:
    write_manifest(folder / "net")
    load(folder / "net" / "a.onnx")
    data = folder / "net" / "w.bin"
    data.write_bytes(bytes(data.stat().st_size))
    with pytest.raises(Refusal, match=r"w\.bin: changed since"):
        load(folder / "net" / "a.onnx")


def test_torn_data_is_refused(folder: Path) -> None:
    data = folder / "net" / "w.bin"
    data.write_bytes(data.read_bytes()[:9])
    with pytest.raises(Refusal, match=r"a\.onnx: not a usable ONNX file: External data"):
        load(folder / "net" / "a.onnx")


def test_data_is_found_wherever_a_tensor_is() -> None:
    def outside(name: str) -> onnx.TensorProto:
        tensor = numpy_helper.from_array(np.zeros(1, np.float32), name)
        onnx.external_data_helper.set_external_data(tensor, location=name)
        return tensor

    constant = helper.make_node("Constant", [], ["c"], value=outside("in a node"))
    inner = helper.make_graph([constant], "inner", [], [], [outside("in a branch")])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    function = helper.make_function("own", "F", [], ["c"], [constant], [helper.make_opsetid("", 20)])
    graph = helper.make_graph(
        [branch], "g", [], [], [outside("at the top"), helper.make_tensor("w", 1, [1], [0])]
    )
    found = external_files(helper.make_model(graph, functions=[function]))
    assert found == ["at the top", "in a branch", "in a node"]


def longer(tensor: onnx.TensorProto) -> None:
    tensor.raw_data += bytes(4)  # which onnx's own checker passes


def far_away(tensor: onnx.TensorProto) -> None:
    onnx.external_data_helper.set_external_data(tensor, "a" * 5000)
    tensor.ClearField("raw_data")


@pytest.mark.parametrize(("change", "says"), [(longer, "reshape"), (far_away, "name too long")])
def test_a_broken_constant_makes_no_usable_file(
    change: Callable[[onnx.TensorProto], None], says: str, small_network: Callable[[str], Path]
) -> None:
    model = onnx.load(path := small_network("nchw-float32"))
    change(model.graph.initializer[0])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Refusal, match=f"(?i)not a usable ONNX file: .*{says}"):
        load(path)


def test_a_text_that_is_none_makes_no_usable_file(small_network: Callable[[str], Path]) -> None:
    model = onnx.load(path := small_network("nchw-float32"))
    onnx.helper.set_model_props(model, {"author": "somebody"})
    path.write_bytes(model.SerializeToString().replace(b"somebody", b"some\xeedy\xee"))
    with pytest.raises(Refusal, match="not a usable ONNX file"):
        load(path)


@pytest.mark.parametrize("ends", ["input", "output"])
def test_two_ends_of_one_name_make_no_usable_file(ends: str, small_network: Callable[[str], Path]) -> None:
    model = onnx.load(path := small_network("nchw-float32"))
    getattr(model.graph, ends).append(getattr(model.graph, ends)[0])
    onnx.save(model, path)
    with pytest.raises(Refusal, match="not a usable ONNX file"):
        load(path)
