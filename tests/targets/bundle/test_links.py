"""What lies in a folder that is written to or read: links are not followed, pipes are not waited for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from targets.budgets.evidence import TestSet
from targets.bundle.bundle import INDEX, Bundle, read_bundle, write_bundle
from targets.errors import Refusal
from targets.limits import Budgets
from targets.measuring.candidate import Candidate
from targets.provenance.manifest import MANIFEST, verify
from targets.spec.contract import Contract
from targets.spec.profile import Profile


@pytest.fixture
def bundle(network: Callable[[str], Path], small_images: NDArray[np.uint8], tmp_path: Path) -> Bundle:
    """For a board, so that all that a bundle can have is in it."""
    np.save(tmp_path / "images.npy", small_images)
    classes = tuple(f"kind{label}" for label in range(5))
    references = {"teacher": np.zeros((7, 5), np.float32)}
    test_set = TestSet(np.arange(7) % 5, classes, references)
    one = Candidate("float", network("nchw-float32"), "float32")
    profile = Profile(name="here", about="", backend="onnxruntime", rewrite="none")
    contract = Contract("nchw-float32", (8, 8), classes)
    return Bundle("r", profile, Budgets(), contract, [one], tmp_path / "images.npy", test_set, [], {})


def test_a_bundle_is_written_through_no_link(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(bundle, tmp_path / "first")
    names = [path.name for path in (tmp_path / "first").iterdir()]
    assert {"labels.npy", "reference.teacher.npy", "images.npy", "float.onnx", INDEX, MANIFEST} <= set(names)
    folder, precious = tmp_path / "second", tmp_path / "precious"
    folder.mkdir()
    precious.write_bytes(b"mine")
    for name in names:
        (folder / name).symlink_to(precious)
    write_bundle(bundle, folder)
    assert precious.read_bytes() == b"mine"
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert {path.name for path in folder.iterdir()} == set(names)
    verify(folder)


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", [INDEX, "labels.npy", "images.npy", "float.onnx", "reference.teacher.npy"])
def test_no_pipe_or_device_is_read_of_an_unverified_bundle(
    name: str, kind: str, bundle: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    write_bundle(bundle, folder)
    (folder / MANIFEST).unlink()
    (folder / name).unlink()
    os.mkfifo(folder / name) if kind == "pipe" else (folder / name).symlink_to("/dev/zero")
    with pytest.raises(Refusal, match=f"{name}: no regular file"):
        read_bundle(folder, unverified=True)


def test_no_file_of_a_bundle_is_a_second_name_of_another(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(bundle, tmp_path / "bundle")
    mask = os.umask(0)
    os.umask(mask)
    for path in (tmp_path / "bundle").iterdir():
        assert path.stat().st_nlink == 1, path
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask, path
