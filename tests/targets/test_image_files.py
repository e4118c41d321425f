"""Image files as they come: turned, odd in shape, of other kinds, more than the disk holds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from targets.decoding import decode_files, tell_unread
from targets.errors import Refusal, Unmeasurable
from targets.image_folder import Decoding, LazyImages, class_folders, save_images
from targets.quantize.images import any_images

ORIENTATION = 0x0112  # of EXIF
SQUARE = Decoding((8, 8))


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_read_as_it_is_to_be_seen(orientation: int, kind: str, tmp_path: Path) -> None:
    """Restated: turned and mirrored as the eight orientations of EXIF say."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    lossless = {"lossless": True} if kind == "webp" else {}
    picture().save(tmp_path / f"a.{kind}", exif=exif, **lossless)
    with Image.open(tmp_path / f"a.{kind}") as stored:
        pixels = np.asarray(stored.convert("RGB"))
    mirrored = pixels[:, ::-1] if orientation in (2, 4, 5, 7) else pixels
    turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation]
    expected = np.rot90(mirrored, turns)
    (found,) = LazyImages([tmp_path / f"a.{kind}"])
    np.testing.assert_array_equal(np.asarray(found), expected)
    decode_files([tmp_path / f"a.{kind}"], SQUARE, tmp_path / "a.npy", "decode")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy")[0], SQUARE(expected))


def test_an_orientation_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    picture().save(tmp_path / "b.jpg", exif=b"Exif\x00\x00not TIFF")
    picture().save(tmp_path / "c.jpg")
    first, second, plain = map(np.asarray, LazyImages([tmp_path / f"{name}.jpg" for name in "abc"]))
    np.testing.assert_array_equal(first, plain)
    np.testing.assert_array_equal(second, plain)


@pytest.mark.parametrize("sides", [(30_000, 1), (1, 30_000)])
def test_an_image_that_would_be_gigabytes_is_refused_by_its_name(
    sides: tuple[int, int], tmp_path: Path
) -> None:
    Image.new("RGB", sides).save(tmp_path / "long.png")
    with pytest.raises(Refusal, match=r"long\.png: an image of .* would become .*; crop or remove it"):
        decode_files([tmp_path / "long.png"], Decoding((224, 224)), tmp_path / "a.npy", "decode")


def test_what_is_not_read_is_told_once_with_its_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a/1.png", "a/2.gif", "a/more/3.png", "b/1.png", "b/2.TIF", "b/3.avif", ".hidden/1.gif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    paths, _ = class_folders(tmp_path)
    tell_unread(tmp_path, paths)
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1
        and "files and folders that are not read: 4, such as a/2.gif; images are .png" in said
    )
    (tmp_path / "loose.png").touch()
    tell_unread(tmp_path, paths)
    assert "files and folders that are not read: 5" in capsys.readouterr().err
    paths, _ = any_images(tmp_path)
    tell_unread(tmp_path, paths)
    assert "files and folders that are not read: 2, such as a; " in capsys.readouterr().err


def test_of_what_is_all_read_nothing_is_told(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell_unread(photos, class_folders(photos)[0])
    assert capsys.readouterr().err == ""


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_more_than_the_disk_has_room_for_is_told_before_it_is_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(photos.glob("*/*.png"))
    needed = len(paths) * 8 * 8 * 3
    where = tmp_path / "out"
    where.mkdir()
    for writes in (
        lambda: decode_files(paths, SQUARE, where / "a.npy", "decode"),
        lambda: save_images(LazyImages(paths), len(paths), SQUARE, where / "b.npy"),
    ):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(needed, 1, needed - 1))
        with pytest.raises(Unmeasurable, match=r"GB of decoded images, and .* GB are free"):
            writes()
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(needed, 0, needed))
        writes()
