"""Signatures by the real ssh-keygen: whose they are, and that nothing else is taken for one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from targets.errors import Refusal
from targets.provenance.manifest import MANIFEST, SIGNATURE, write_manifest
from targets.provenance.signature import check_key, sign, signer

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no OpenSSH here")
Key = Callable[[str], Path]


@pytest.fixture
def key(tmp_path: Path) -> Key:
    def make(name: str) -> Path:
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(tmp_path / name)]
        subprocess.run(words, check=True)
        return tmp_path / name

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "int8.onnx").write_bytes(b"a network")
    write_manifest(tmp_path / "made")
    return tmp_path / "made"


def allowed(*keys: Path) -> Path:
    """A file of allowed signers, each called after the key's file."""
    path = keys[0].with_name("allowed")
    path.write_text("".join(f"{one.name}@x {one.with_suffix('.pub').read_text()}" for one in keys))
    return path


def test_it_is_told_who_signed(folder: Path, key: Key) -> None:
    alice, bob = key("alice"), key("bob")
    for one in (alice, bob):
        sign(folder, one)
        assert signer(folder, allowed(alice, bob)) == f"{one.name}@x"


def test_a_signature_by_nobody_allowed_is_refused(folder: Path, key: Key) -> None:
    alice, bob = key("alice"), key("bob")
    with pytest.raises(Refusal, match="not signed"):
        signer(folder, allowed(alice))
    sign(folder, bob)
    with pytest.raises(Refusal, match="by no key of"):
        signer(folder, allowed(alice))


def test_a_signature_is_of_this_manifest(folder: Path, key: Key) -> None:
    alice = key("alice")
    sign(folder, alice)
    (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes() + b" ")
    with pytest.raises(Refusal, match=r"no signature of .* by alice@x"):
        signer(folder, allowed(alice))


def test_a_signature_for_another_purpose_is_none(folder: Path, key: Key) -> None:
    """As git's: who signed a commit did not sign a network."""
    alice = key("alice")
    words = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(alice), "-n", "git", str(folder / MANIFEST)]
    subprocess.run(words, check=True, capture_output=True)
    assert (folder / SIGNATURE).exists()
    with pytest.raises(Refusal, match="no signature of"):
        signer(folder, allowed(alice))


def test_nothing_that_was_changed_is_signed(folder: Path, key: Key) -> None:
    alice = key("alice")
    (folder / "int8.onnx").write_bytes(b"another one")
    with pytest.raises(Refusal, match=r"int8\.onnx: changed"):
        sign(folder, alice)
    assert not (folder / SIGNATURE).exists()


def test_a_key_that_cannot_sign_is_refused_at_the_door(tmp_path: Path, key: Key) -> None:
    check_key(key("alice"))
    with pytest.raises(Refusal, match="no such key"):
        check_key(tmp_path / "none")
    (tmp_path / "bad").write_text("no key\n")
    with pytest.raises(Refusal, match="bad"):
        check_key(tmp_path / "bad")
