"""decode: bundled digits, folders of images, a user's factory; and the split that is drawn once for good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.catalogue import Images
from pipeline.data.decoded import TEST, TRAIN, VALIDATION, Decoded, read
from pipeline.engine.job import Job
from pipeline.recipe.data import Data
from pipeline.stages import decode
from targets.errors import Refusal
from targets.image_folder import Decoding

RED, GREEN, BLUE = (250, 10, 10), (10, 250, 10), (10, 10, 250)
Run = Callable[..., Decoded]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The room on a recipe's data section, in this process."""
    number = iter(range(99))

    def decoded(inputs: dict[str, Path] | None = None, **data: Any) -> Decoded:
        out = tmp_path / f"out{next(number)}"
        out.mkdir()
        settings = Data.model_validate(data).model_dump(mode="json")
        given = {"folder": data["folder"]} if "folder" in data else {}
        decode.run(Job(settings, {}, {**given, **(inputs or {})}, out, tmp_path))
        return read(out)

    return decoded


def save(path: Path, color: Any = RED, size: tuple[int, int] = (16, 16), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).convert(mode).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Class folders whose images have the color of their class."""
    for number in range(10):
        save(tmp_path / "photos" / "cats" / f"{number}.png", RED)
        save(tmp_path / "photos" / "dogs" / f"{number}.PNG", BLUE)
    return tmp_path / "photos"


def test_digits_are_decoded_and_split_by_class(run: Run) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="digits come with scikit-learn (retort[train])")
    bundled = datasets.load_digits()
    found = run(name="digits")
    assert found.images.shape == (1797, 32, 32, 3) and found.images.dtype == np.uint8
    assert found.facts.classes == tuple("0123456789") and not found.facts.flip
    np.testing.assert_array_equal(found.labels, bundled.target)
    pooled = found.images[..., 0].reshape(-1, 8, 4, 8, 4).mean((2, 4))
    for image, grey in zip(pooled[::100], bundled.images[::100], strict=True):
        assert np.corrcoef(image.ravel(), grey.ravel())[0, 1] > 0.95
    for label in range(10):
        mine = found.split[found.labels == label]
        shares = [np.mean(mine == part) for part in (TEST, VALIDATION, TRAIN)]
        assert shares == pytest.approx([0.4, 0.06, 0.54], abs=0.01)


def test_a_folders_images_keep_their_classes_and_colors(run: Run, photos: Path) -> None:
    save(photos / ".cache" / "thumb.png", GREEN)
    (photos / "cats" / "notes.txt").touch()
    found = run(folder=photos, size=8)
    assert found.facts.classes == ("cats", "dogs") and found.facts.decoding.size == (8, 8)
    assert found.images.shape == (20, 8, 8, 3)
    for image, label in zip(found.images, found.labels, strict=True):
        assert np.all(image == np.array((RED, BLUE)[label]))
    counts = [[int(np.sum(found.split[found.labels == c] == part)) for part in range(3)] for c in range(2)]
    assert counts == [[7, 1, 2], [7, 1, 2]]


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_folder_with_its_own_test_split_keeps_it(run: Run, tmp_path: Path, name: str) -> None:
    for split, color, count in (("train", RED, 8), (name, GREEN, 3)):
        for index in range(count):
            for kind in ("cats", "dogs"):
                save(tmp_path / "set" / split / kind / f"{index}.png", color)
    found = run(folder=tmp_path / "set", size=8)
    greens = np.all(found.images == np.array(GREEN), axis=(1, 2, 3))
    np.testing.assert_array_equal(greens, found.split == TEST)
    assert greens.sum() == 6
    for label in range(2):
        assert np.sum((found.split == VALIDATION) & (found.labels == label)) == 1


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *(("L", "png"), ("LA", "png"), ("1", "png"), ("P", "png"), ("RGBA", "png"), ("RGBA", "webp")),
        *(("CMYK", "jpg"), ("L", "jpg"), ("RGB", "bmp"), ("RGB", "ppm"), ("L", "jpeg")),
    ],
)
def test_every_kind_of_image_becomes_three_colors(run: Run, photos: Path, mode: str, suffix: str) -> None:
    save(photos / "cats" / f"99.{suffix}", (255, 255, 255), mode=mode)
    found = run(folder=photos, size=8)
    assert found.images.shape == (21, 8, 8, 3)
    assert found.images[10].min() > 245, "the white one is last of the cats"


def test_sixteen_bits_are_not_cut_off_to_white(run: Run, photos: Path) -> None:
    """As X-rays and depth maps come: either the range is kept, or the file is refused by its name."""
    ramp = np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)
    Image.fromarray(ramp).save(photos / "cats" / "99.png")
    try:
        image = run(folder=photos, size=16).images[10]
    except Refusal as refusal:
        assert "99.png" in str(refusal)
    else:
        np.testing.assert_allclose(image[..., 0], ramp / 257, atol=1.5)


@pytest.mark.parametrize("upright", [False, True])
def test_of_a_long_image_the_middle_square_is_kept(run: Run, photos: Path, upright: bool) -> None:
    bands = np.zeros((32, 96, 3), np.uint8)
    bands[:, :32], bands[:, 32:64], bands[:, 64:] = RED, GREEN, BLUE
    Image.fromarray(bands.transpose(1, 0, 2) if upright else bands).save(photos / "cats" / "99.png")
    image = run(folder=photos, size=8).images[10]
    assert np.all(image[2:-2, 2:-2] == np.array(GREEN))


def test_a_longer_image_is_scaled_by_its_shorter_side() -> None:
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], 20, axis=0).repeat(3, axis=2)
    image = Decoding((10, 10))(ramp)  # 60 x 20 becomes 30 x 10, and columns 10 to 20 of it are kept
    expected = [4 * (2 * column + 0.5) for column in range(10, 20)]
    np.testing.assert_allclose(image[5, :, 0], expected, atol=2)


def test_images_are_decoded_as_the_recipe_says(run: Run, photos: Path) -> None:
    wide = run(folder=photos, size=[8, 24], channels="grey", resize=[12, 32], interpolation="bicubic")
    assert wide.images.shape == (20, 8, 24, 1)
    assert wide.facts.decoding == Decoding((8, 24), "grey", (12, 32), "bicubic")
    assert wide.facts.shape == (1, 8, 24) and wide.facts.mean == pytest.approx((0.449,), abs=1e-3)
    lightness = [round(0.299 * r + 0.587 * g + 0.114 * b) for r, g, b in (RED, BLUE)]
    assert [int(image[0, 0, 0]) for image in wide.images[[0, 10]]] == lightness
    with pytest.raises(Refusal, match=r"resize = 8 does not cover images of 224x224; give a larger one"):
        run(folder=photos, resize=8)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(20), None])
def test_a_broken_image_is_named(run: Run, photos: Path, content: bytes | None) -> None:
    path = photos / "dogs" / "3.PNG"
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(Refusal, match=r"dogs/3\.PNG: broken image"):
        run(folder=photos)


def test_folders_that_cannot_be_classes_are_refused_with_their_names(run: Run, photos: Path) -> None:
    (photos / "empty").mkdir()
    with pytest.raises(Refusal, match=r"photos/empty has no images"):
        run(folder=photos)
    (photos / "empty").rmdir()
    with pytest.raises(Refusal, match="0 class folders; at least 2"):
        run(folder=photos / "cats")
    for number in range(2):
        save(photos / "rare" / f"{number}.png")
    with pytest.raises(Refusal, match="'rare' has 2 images; 3 are needed"):
        run(folder=photos)


def test_splits_with_different_classes_are_refused_with_the_odd_ones(run: Run, tmp_path: Path) -> None:
    for name in ("train/cats", "train/dogs", "test/cats", "test/dogs", "test/owls"):
        save(tmp_path / "set" / name / "1.png")
    with pytest.raises(Refusal, match="train and test differ in classes: owls"):
        run(folder=tmp_path / "set")


def test_train_without_test_is_refused(run: Run, tmp_path: Path) -> None:
    for name in ("train/cats", "train/dogs"):
        save(tmp_path / "set" / name / "1.png")
    with pytest.raises(Refusal, match="has train/ but no test/"):
        run(folder=tmp_path / "set")


def test_a_class_with_too_few_training_images_is_refused(run: Run, tmp_path: Path) -> None:
    """Three images in all, but two of them are the test's: none would be left to train on."""
    for name, count in (("train/cats", 5), ("train/dogs", 1), ("test/cats", 2), ("test/dogs", 2)):
        for number in range(count):
            save(tmp_path / "set" / name / f"{number}.png")
    with pytest.raises(Refusal, match="dogs"):
        run(folder=tmp_path / "set", size=8)


def images(labels: list[int], classes: int, test: list[bool] | None = None) -> Images:
    held = None if test is None else np.array(test)
    pixels = np.zeros((len(labels), 8, 8, 3), np.uint8)
    return Images(pixels, np.array(labels, np.int64), tuple(map(str, range(classes))), held)


shares = st.floats(0.01, 0.99)


@settings(max_examples=200)
@given(st.lists(st.integers(3, 30), min_size=2, max_size=5), shares, shares, st.integers(0, 9))
def test_every_class_has_an_image_in_every_split(
    counts: list[int], test: float, validation: float, seed: int
) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    source = images(labels, len(counts))
    split = decode.split_images(source, source.labels, test, validation, np.random.default_rng(seed))
    assert set(np.unique(split)) <= {TRAIN, VALIDATION, TEST}
    for label, count in enumerate(counts):
        mine = split[source.labels == label]
        assert all(np.any(mine == part) for part in (TRAIN, VALIDATION, TEST))
        assert abs(np.sum(mine == TEST) - test * count) <= 2


@given(st.integers(0, 99))
def test_a_given_test_split_is_left_as_it_is(seed: int) -> None:
    held = np.random.default_rng(seed).permutation([True] * 6 + [False] * 14).tolist()
    source = images([0] * 10 + [1] * 10, 2, held)
    split = decode.split_images(source, source.labels, None, 0.1, np.random.default_rng(seed))
    np.testing.assert_array_equal(split == TEST, held)


def test_the_split_is_drawn_by_the_seed(run: Run, photos: Path) -> None:
    splits = [run(folder=photos, size=8, seed=seed).split.tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


WRONG = [
    (Images(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(3, np.int64), ("a", "b")), "4 images but 3 labels"),
    (images([0, 0, 0, 1, 1, 1, 2, 2, 2], 2), "labels run to 2"),
    (images([0, 0, 0, 1, 1, 1, -1], 2), "label"),
    (Images(np.full((6, 8, 8, 3), 0.5), np.array([0, 1] * 3), ("a", "b")), "uint8"),
    (Images(np.zeros((6, 8, 8), np.uint8), np.array([0, 1] * 3), ("a", "b")), "RGB|3"),
    (images([], 2), "images"),
]


@pytest.mark.parametrize(("made", "words"), WRONG)
def test_images_that_a_factory_gets_wrong_are_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, made: Images, words: str
) -> None:
    monkeypatch.setattr(decode, "load_factory", lambda *_: lambda: made)
    with pytest.raises(Refusal, match=words):
        run(factory="mine:images", size=8)
