"""Images scaled and cut as torchvision does it of a PIL image, to the bit; and what does not cover is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from targets.errors import Refusal
from targets.image_folder import Decoding, Resize, Size, save_images

SIDES = [(40, 40), (48, 33), (33, 48), (64, 17), (100, 31)]  # width and height of what is decoded
CASES: list[tuple[Size, Resize | None]] = [
    ((24, 24), None),
    ((24, 24), 24),
    ((24, 24), 28),
    ((23, 23), 30),
    ((16, 12), 20),
    ((24, 48), (24, 48)),
    ((21, 40), (24, 47)),
]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "resize"), CASES)
def test_resize_and_centre_crop_are_torchvision_s(
    size: Size, resize: Resize | None, interpolation: str
) -> None:
    vision = pytest.importorskip("torchvision.transforms.v2", reason="what it is compared with")
    how = vision.InterpolationMode(interpolation)
    scale = vision.Resize(list(resize) if isinstance(resize, tuple) else resize or size[0], how)
    grey = [vision.Grayscale()]
    for number, sides in enumerate(SIDES):
        image = picture(*sides, number)
        for channels, first in (("rgb", []), ("grey", grey)):
            theirs = vision.Compose([*first, scale, vision.CenterCrop(list(size))])(image)
            found = Decoding(size, channels, resize, interpolation)(image)  # type: ignore[arg-type]
            assert np.array_equal(found, np.asarray(theirs).reshape(found.shape))
            assert found.shape == (*size, 1 if channels == "grey" else 3)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("size", [(24, 48), (48, 24), (8, 64)])
def test_without_resize_an_image_is_scaled_as_little_as_covers_the_size(sides: Size, size: Size) -> None:
    width, height = sides
    high, wide = Decoding(size).scaled(height, width)
    assert high >= size[0] and wide >= size[1] and (high == size[0] or wide == size[1])
    assert abs(high / height - wide / width) < 1 / min(width, height)


@pytest.mark.parametrize(
    ("size", "resize", "words"),
    [
        ((224, 224), 200, "resize = 200 does not cover images of 224x224"),
        ((48, 192), 64, "resize = 64 does not cover images of 48x192"),
        ((48, 192), (48, 190), r"resize = \[48, 190\] does not cover images of 48x192; give a larger one"),
    ],
)
def test_what_does_not_cover_the_size_is_refused(size: Size, resize: Resize, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        Decoding(size, resize=resize)


def test_arrays_of_one_channel_are_images_too(tmp_path: Path) -> None:
    shades = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    for channels, expected in (("grey", shades), ("rgb", np.repeat(shades, 3, -1))):
        decoding = Decoding.of({"size": [8, 8], "channels": channels})
        save_images([shades], 1, decoding, tmp_path / "a.npy")
        assert np.array_equal(np.load(tmp_path / "a.npy"), expected[None])
