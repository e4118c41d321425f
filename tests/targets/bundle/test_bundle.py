"""Bundles: what is read is what was written, and a target that cannot be measured stops nothing."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from support.trt_graphs import foreign, good
from targets.bundle import bundle as bundles
from targets.bundle import prove as proving
from targets.bundle.bundle import Bundle, read_bundle, write_bundle
from targets.bundle.prove import prove, report_of
from targets.convert.tensorrt_lint import lint
from targets.errors import PASSED, UNDECIDED, WRONG_INPUT, Refusal
from targets.measuring.candidate import Candidate, Measurement
from targets.provenance.manifest import write_manifest
from targets.runner.backends.trtexec import JETPACK
from targets.spec.contract import Contract

SIDE, CLASSES = 8, tuple("abcde")
CONTRACT = Contract("nchw-float32", (SIDE, SIDE), CLASSES)
HERE: dict[str, Any] = {"name": "here", "about": "a test", "backend": "onnxruntime", "rewrite": "none"}
Make = Callable[..., Bundle]


def test_what_is_read_is_what_was_written(make: Make, tmp_path: Path) -> None:
    one, folder = make(), tmp_path / "bundle"
    write_bundle(one, folder)
    write_bundle(one, folder)  # again over itself
    files = {path.name for path in folder.iterdir()}
    wanted = {"bundle.json", "images.npy", "labels.npy", "reference.teacher.npy", "float.onnx", "int8.onnx"}
    assert files == {*wanted, "manifest.json"}
    back = read_bundle(folder)
    for key in ("recipe", "profile", "budgets", "contract", "networks", "notes"):
        assert getattr(back, key) == getattr(one, key), key
    for mine, theirs in zip(back.candidates, one.candidates, strict=True):
        assert mine.model == folder / f"{mine.name}.onnx"
        assert mine.model.read_bytes() == theirs.model.read_bytes()
        assert {**asdict(mine), "model": 0} == {**asdict(theirs), "model": 0}
    again, first = back.test_set, one.test_set
    assert again.classes == first.classes and np.array_equal(again.labels, first.labels)
    assert again.references.keys() == {"teacher"}
    assert np.array_equal(again.references["teacher"], first.references["teacher"])
    assert np.array_equal(np.load(back.images), np.load(one.images))


def test_a_bundle_travels(make: Make, tmp_path: Path) -> None:
    write_bundle(make(), tmp_path / "bundle")
    shutil.move(tmp_path / "bundle", tmp_path / "elsewhere")
    assert all(one.model.is_file() for one in read_bundle(tmp_path / "elsewhere").candidates)


def test_a_half_written_bundle_is_none(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a whole one lay before."""
    one, folder = make(), tmp_path / "bundle"
    write_bundle(one, folder)
    monkeypatch.setattr(bundles, "place", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_bundle(one, folder)
    with pytest.raises(Refusal, match="no bundle"):
        read_bundle(folder)


def test_a_read_bundle_is_proved_as_the_original(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Measurement] = []
    real = proving.measure
    monkeypatch.setattr(proving, "measure", lambda *given: (found.append(real(*given)), found[-1])[1])
    one = make()
    write_bundle(one, tmp_path / "bundle")
    back = read_bundle(tmp_path / "bundle")
    proofs = [prove(bundle, "local", tmp_path / name) for name, bundle in (("one", one), ("back", back))]
    left, right = (measured.candidates for measured in found)
    assert left.keys() == right.keys() == {"float", "int8"}
    for name in left:
        assert np.array_equal(left[name].logits, right[name].logits)
        assert left[name].size_bytes == right[name].size_bytes
    for table in (proof.table for proof in proofs):
        assert table["status"] == PASSED, table["lines"]
        assert [line["budget"] for line in table["lines"]] == ["accuracy", "drop_vs_teacher", "drop_vs_float"]
        assert table["candidates"]["int8"]["macs"] == 10
    report = report_of([one, back], proofs)
    assert report["status"] == PASSED and report["made_by"] == []
    (row,) = report["agreement_matrix"]
    assert row["candidate"] == "int8" and row["same"]["value"] == 1.0 and row["largest"] == 0.0
    assert row["apart"] == []
    assert len(report["networks"]) == 2 and len(report["lineage"]) == 1
    other = replace(back, networks=[*one.networks, {"name": "pruned", "macs": 5, "parameters": 3}])
    names = [row["name"] for row in report_of([one, other], proofs)["networks"]]
    assert names == ["teacher", "student", f"pruned for {other.profile.name}"], "cut for that target alone"


def unmeasured(table: dict[str, Any]) -> str:
    """The one reason of a table that was not measured."""
    assert table["status"] == UNDECIDED and table["ship"] is None and table["candidates"] == {}
    assert [line["budget"] for line in table["lines"]] == ["accuracy", "drop_vs_teacher", "drop_vs_float"]
    assert {line["outcome"] for line in table["lines"]} == {"NOT MEASURED"}
    (note,) = {line["note"] for line in table["lines"]}
    assert note and "\n" not in note
    return str(note)


def test_a_remote_target_without_a_device_says_what_is_next(make: Make, tmp_path: Path) -> None:
    one = make(name="board", remote=True)
    note = unmeasured(prove(one, "local", tmp_path / "report").table)
    bundle = tmp_path / "report" / "bundle"
    assert note == f"no device given; next: retort measure {bundle} --device ssh://user@board"


def test_what_cannot_be_measured_stops_no_other(make: Make, tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is here")
    quantized = tmp_path / "good.onnx"
    onnx.save(good(), quantized)
    both = [make(name="nvidia", backend="tensorrt"), make()]
    two = [Candidate("int8", quantized, "int8", "student")]
    both[0] = Bundle(**{**vars(both[0]), "candidates": two})
    proofs = [prove(one, "local", tmp_path / one.profile.name) for one in both]
    assert "tensorrt" in unmeasured(proofs[0].table).lower()
    assert proofs[1].table["status"] == PASSED
    report = report_of(both, proofs)
    assert report["status"] == UNDECIDED and report["agreement_matrix"] == [], "one target answered"


def test_a_phones_file_travels_too(make: Make, tmp_path: Path) -> None:
    (tmp_path / "made.tflite").write_bytes(b"a file for LiteRT")
    one = make()
    candidates = [replace(one.candidates[0], lite=tmp_path / "made.tflite"), one.candidates[1]]
    write_bundle(replace(one, candidates=candidates), tmp_path / "bundle")
    read = read_bundle(tmp_path / "bundle").candidates
    assert read[0].lite == tmp_path / "bundle" / "float.tflite" and read[1].lite is None
    assert read[0].lite.read_bytes() == b"a file for LiteRT"


def test_without_the_converter_a_phone_is_not_measured(make: Make, tmp_path: Path) -> None:
    one = make(backend="litert", format="tflite", remote=True, stand_in=True)
    assert "no .tflite was made of it" in unmeasured(prove(one, "local", tmp_path / "out").table)


def edit(folder: Path, but: str = "", **values: Any) -> None:
    raw = {
        key: value for key, value in json.loads((folder / "bundle.json").read_text()).items() if key != but
    }
    (folder / "bundle.json").write_text(json.dumps({**raw, **values}))


def rename(folder: Path, **names: str) -> None:
    """Another name in the first candidate: here and on the device it would be a path."""
    raw = json.loads((folder / "bundle.json").read_text())
    raw["candidates"][0].update(names)
    (folder / "bundle.json").write_text(json.dumps(raw))


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BREAKAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no-folder": (shutil.rmtree, "no bundle: .*bundle.json is missing; make one with retort bundle"),
    "no-index": (lambda f: (f / "bundle.json").unlink(), "no bundle: .*bundle.json is missing"),
    "no-labels": (lambda f: (f / "labels.npy").unlink(), "labels.npy is missing"),
    "no-reference": (lambda f: (f / "reference.teacher.npy").unlink(), "reference.teacher.npy is missing"),
    "other-format": (lambda f: edit(f, format=99), "a bundle of format 99; this Retort reads 3"),
    "no-format": (lambda f: edit(f, but="format"), "a broken bundle"),
    "no-contract": (lambda f: edit(f, but="contract"), "a broken bundle"),
    "half-an-index": (lambda f: halved(f / "bundle.json"), "a broken bundle"),
    "no-text": (lambda f: (f / "bundle.json").write_bytes(b"\xff\xfe\x00"), "a broken bundle"),
    "a-list": (lambda f: (f / "bundle.json").write_text("[1]"), "a broken bundle"),
    "bad-budget": (lambda f: edit(f, budgets={"accuracy": 300}), "a broken bundle"),
    "bad-profile": (lambda f: edit(f, profile={"name": "x", "nonsense": 1}), "a broken bundle"),
    "bad-candidate": (lambda f: edit(f, candidates=[{"name": "x", "model": "x"}]), "a broken bundle"),
    "half-the-labels": (lambda f: halved(f / "labels.npy"), "a broken bundle"),
    "empty-labels": (lambda f: (f / "labels.npy").write_bytes(b""), "a broken bundle"),
    "no-array": (lambda f: (f / "labels.npy").write_bytes(b"no array at all"), "a broken bundle"),
    "a-name-above": (
        lambda f: rename(f, name="../../x"),
        r"candidates\.0\.name: .* no plain name .*'\.\./\.\./x'",
    ),
    "a-model-above": (lambda f: rename(f, model="/etc/passwd"), "is no plain name .*'/etc/passwd'"),
    "a-lite-above": (lambda f: rename(f, lite="../x.tflite"), "is no plain name"),
    "a-reference-above": (lambda f: edit(f, references=["/../../x"]), "is no plain name"),
    "a-profile-above": (lambda f: edit(f, profile={**HERE, "name": "../../x"}), "a broken bundle"),
    "a-file": (lambda f: (shutil.rmtree(f), f.write_text("x")), "no bundle|a broken bundle"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_is_no_bundle_is_refused_in_one_line(name: str, make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(make(), folder)
    change, says = BREAKAGES[name]
    change(folder)
    if (folder / "bundle.json").is_file():
        write_manifest(folder)  # by whoever changed it
    with pytest.raises(Refusal, match=says) as caught:
        read_bundle(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert caught.value.status == WRONG_INPUT


def for_tensorrt(make: Make, model: onnx.ModelProto, path: Path) -> Bundle:
    onnx.save(model, path)
    plain = make(name="board", backend="tensorrt", remote=True)
    candidates = [Candidate("float", plain.candidates[0].model, "float32"), Candidate("int8", path, "int8")]
    return Bundle(**{**vars(plain), "candidates": candidates})


def test_a_bundle_for_tensorrt_holds_what_its_parser_takes(make: Make, tmp_path: Path) -> None:
    one, folder = for_tensorrt(make, good(), tmp_path / "good.onnx"), tmp_path / "bundle"
    write_bundle(one, folder)
    for candidate in read_bundle(folder).candidates:
        assert lint(onnx.load(candidate.model), "10.3") == []
    text = (folder / "NEXT.md").read_text()
    commands = [line.split() for line in text.splitlines() if "trtexec" in line]
    assert [line[0] for line in commands] == [JETPACK, JETPACK]
    assert [line[1] for line in commands] == ["--onnx=float.onnx", "--onnx=int8.onnx"]
    assert "--int8" in commands[1] and "--int8" not in commands[0]
    assert f"retort measure {folder} --device ssh://user@board" in text


def test_a_bundle_for_another_runtime_has_no_word_on_trtexec(make: Make, tmp_path: Path) -> None:
    write_bundle(make(), tmp_path / "bundle")
    assert not (tmp_path / "bundle" / "NEXT.md").exists()


def test_a_file_that_tensorrt_would_not_take_makes_no_bundle(make: Make, tmp_path: Path) -> None:
    one = for_tensorrt(make, foreign("Gelu")(), tmp_path / "bad.onnx")
    with pytest.raises(Refusal, match=r"TensorRT 10\.3 would not take it") as caught:
        write_bundle(one, tmp_path / "bundle")
    assert "\n" not in str(caught.value)
    with pytest.raises(Refusal, match="no bundle"):
        read_bundle(tmp_path / "bundle")


def test_an_edited_bundle_changes_no_file_that_it_was_made_of(make: Make, tmp_path: Path) -> None:
    one, folder = make(), tmp_path / "bundle"
    before = one.images.read_bytes()
    write_bundle(one, folder)
    (folder / "images.npy").open("r+b").write(b"xxxx")
    assert one.images.read_bytes() == before


def test_what_a_bundle_notes_is_never_its_verdict(make: Make, tmp_path: Path) -> None:
    write_bundle(make(), tmp_path / "bundle")
    notes = {"status": 0, "targets": [], "recipe": "another", "retort": "9"}
    edit(tmp_path / "bundle", notes=notes, budgets={"accuracy": 100})
    write_manifest(tmp_path / "bundle")
    read = read_bundle(tmp_path / "bundle")
    table = report_of([read], [prove(read, "local", tmp_path / "out")])
    assert table["status"] != 0 and len(table["targets"]) == 1 and table["recipe"] == read.recipe
