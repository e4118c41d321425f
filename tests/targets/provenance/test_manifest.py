"""A folder with a manifest: what was altered, added, removed or exchanged in it is found, and named."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.errors import WRONG_INPUT, Refusal
from targets.onnx_file import load
from targets.provenance.manifest import MANIFEST, SIGNATURE, verify, verify_file, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "bundle").mkdir(parents=True)
    (made / "int8.onnx").write_bytes(bytes(range(256)) * 5)
    (made / "empty.txt").write_bytes(b"")
    (made / "bundle" / "labels.npy").write_bytes(b"labels")
    write_manifest(made)
    return made


def exchanged(folder: Path) -> None:
    """The same content, behind a link: later it may be another."""
    (folder.parent / "twin").write_bytes((folder / "int8.onnx").read_bytes())
    (folder / "int8.onnx").unlink()
    (folder / "int8.onnx").symlink_to(folder.parent / "twin")


def folder_exchanged(folder: Path) -> None:
    (folder / "bundle").rename(folder.parent / "elsewhere")
    (folder / "bundle").symlink_to(folder.parent / "elsewhere")


def piped(folder: Path) -> None:
    (folder / "empty.txt").unlink()
    os.mkfifo(folder / "empty.txt")


def listed_above(folder: Path) -> None:
    table = json.loads((folder / MANIFEST).read_text())
    table["files"]["../twin"] = table["files"]["int8.onnx"]
    (folder.parent / "twin").write_bytes((folder / "int8.onnx").read_bytes())
    (folder / MANIFEST).write_text(json.dumps(table))


def linked_manifest(folder: Path) -> None:
    (folder / MANIFEST).rename(folder.parent / "another")
    (folder / MANIFEST).symlink_to(folder.parent / "another")


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "longer": (lambda f: (f / "int8.onnx").open("ab").write(b"x"), "int8.onnx: changed since"),
    "in a folder": (lambda f: (f / "bundle" / "labels.npy").write_bytes(b"lebals"), "labels.npy: changed"),
    "added": (lambda f: (f / "more.onnx").write_bytes(b""), "more.onnx: not in manifest"),
    "added in a folder": (lambda f: (f / "bundle" / "x").write_bytes(b""), "bundle/x: not in manifest"),
    "removed": (lambda f: (f / "empty.txt").unlink(), "empty.txt: missing"),
    "a link": (exchanged, "int8.onnx: a link"),
    "a linked folder": (folder_exchanged, "bundle: a link"),
    "a pipe": (piped, "empty.txt: no regular file"),
    "above": (listed_above, r"\.\./twin: missing"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "has no manifest.json"),
    "a linked manifest": (linked_manifest, "manifest.json: a link"),
    "another's manifest": (lambda f: (f / MANIFEST).write_text('{"name": "app"}'), "not a manifest"),
    "no json": (lambda f: (f / MANIFEST).write_bytes(b"\xff"), "not a manifest"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_named(change: str, folder: Path) -> None:
    verify(folder)
    do, says = CHANGES[change]
    do(folder)
    with pytest.raises(Refusal, match=says) as caught:
        verify(folder)
    assert caught.value.status == WRONG_INPUT and "\n" not in str(caught.value)


@given(st.integers(0, 256 * 5 - 1), st.integers(1, 255))
def test_no_altered_byte_passes(tmp_path_factory: pytest.TempPathFactory, place: int, change: int) -> None:
    folder = tmp_path_factory.mktemp("made")
    (folder / "model").write_bytes(bytes(range(256)) * 5)
    write_manifest(folder)
    content = bytearray((folder / "model").read_bytes())
    content[place] ^= change
    (folder / "model").write_bytes(content)
    with pytest.raises(Refusal, match="model: changed"):
        verify(folder)


def test_it_holds_what_sha256_says_and_no_signature(folder: Path) -> None:
    (folder / SIGNATURE).write_bytes(b"of what was here before")
    write_manifest(folder)
    assert not (folder / SIGNATURE).exists(), "it signs what was there before"
    files = json.loads((folder / MANIFEST).read_text())["files"]
    assert set(files) == {"int8.onnx", "empty.txt", "bundle/labels.npy"}
    for name, row in files.items():
        content = (folder / name).read_bytes()
        assert row == {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (folder / SIGNATURE).write_bytes(b"a signature changes nothing that is signed")
    verify(folder)


def test_a_model_is_compared_with_the_manifest_beside_it(
    network: Callable[[str], Path], tmp_path: Path
) -> None:
    """As gate, lock, compare and quantize read it."""
    model = tmp_path / "ships" / "int8.onnx"
    model.parent.mkdir()
    model.write_bytes(network("nchw-float32").read_bytes())
    write_manifest(model.parent)
    load(model)
    other = model.with_name("other.onnx")
    other.write_bytes(model.read_bytes())
    model.write_bytes(model.read_bytes() + b"\x3a\x00")  # an empty field more: protobuf takes it
    with pytest.raises(Refusal, match=r"int8\.onnx: changed since"):
        load(model)
    with pytest.raises(Refusal, match=r"other\.onnx: not in the manifest"):
        load(other)
    (model.parent / MANIFEST).write_text('{"name": "a web page\'s manifest"}')
    load(model)
    (model.parent / MANIFEST).unlink()
    verify_file(model)
