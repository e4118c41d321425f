"""Pipes and devices that are named as files are refused at the door: reading them may never end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.recipe.read import read_recipe
from targets.baselines.lock import lock_of, read_lock
from targets.errors import Refusal
from targets.image_folder import class_folders
from targets.onnx_file import load
from targets.quantize.images import any_images
from targets.spec.profile import read_profile

RECIPE = (
    'version = 1\ndata = "digits"\nstudent = "resnet8"\nteacher = {{ network = "resnet8", weights = "{}" }}\n'
)


def images(odd: Path) -> object:
    for name in ("a", "b"):
        (odd.parent / "photos" / name).mkdir(parents=True)
    (odd.parent / "photos" / "a" / "1.png").write_bytes(b"one")
    (odd.parent / "photos" / "b" / "1.png").symlink_to(odd)
    return class_folders(odd.parent / "photos")


def recipe(odd: Path) -> object:
    path = odd.parent / "recipe.toml"
    path.write_text(RECIPE.format(odd))
    return read_recipe(str(path))


def flat_images(odd: Path) -> object:
    (odd.parent / "flat").mkdir()
    (odd.parent / "flat" / "1.png").symlink_to(odd)
    return any_images(odd.parent / "flat")


READERS: dict[str, Callable[[Path], object]] = {
    "model": load,
    "lock of a model": lambda odd: lock_of(odd, odd.parent / "retort.lock"),
    "lock": read_lock,
    "images": images,
    "images without classes": flat_images,
    "profile": lambda odd: read_profile(str(odd)),
    "weights": recipe,
    "recipe": lambda odd: read_recipe(str(odd)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_refused(kind: str, reader: str, tmp_path: Path) -> None:
    odd = tmp_path / "odd.toml"
    os.mkfifo(odd) if kind == "pipe" else odd.symlink_to("/dev/zero")
    with pytest.raises(Refusal, match=r"no regular file|is not a file"):
        READERS[reader](odd)
