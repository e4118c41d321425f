"""How weights were tested: equal to the transforms that their own packages make of the same metadata."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torchvision", reason="the metadata is torchvision's")

from PIL import Image
from torchvision import models
from torchvision.transforms import v2

from pipeline.data.catalogue import OTHER
from pipeline.models.names import brought
from pipeline.models.pretrained import how_tested
from pipeline.recipe.data import Data
from pipeline.stages.decode import decoding_of
from targets.errors import Refusal
from targets.image_folder import Decoding

WEIGHTS = [
    ("resnet50", "IMAGENET1K_V1"),
    ("resnet50", "IMAGENET1K_V2"),
    ("inception_v3", "DEFAULT"),
    ("efficientnet_b0", "IMAGENET1K_V1"),
    ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),
]


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 411, 3), dtype=np.uint8))


@pytest.mark.parametrize(("name", "weights"), WEIGHTS)
def test_torchvision_s_weights(name: str, weights: str) -> None:
    """Their own transforms, without the normalisation, are what is decoded; to the bit."""
    theirs = models.get_model_weights(name)[weights].transforms()
    theirs.mean, theirs.std = [0.0] * 3, [1.0] * 3
    found = how_tested(name, weights)
    assert found is not None
    expected = (theirs(picture()) * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(found(picture()), expected)


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k"])
def test_timm_s_weights(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is an extra")
    how = timm.get_pretrained_cfg(name)
    settings = timm.data.resolve_data_config(pretrained_cfg=how.to_dict())
    theirs = timm.data.create_transform(**settings).transforms[:2]
    found = how_tested(f"timm/{name}", None)
    assert found is not None
    assert np.array_equal(found(picture()), np.asarray(v2.Compose(theirs)(picture())))


def test_weights_that_there_are_not_are_refused() -> None:
    with pytest.raises(Refusal, match="teacher: resnet50 has no weights IMAGENET1K_V9"):
        how_tested("resnet50", "IMAGENET1K_V9")


@pytest.mark.parametrize(
    ("network", "arguments", "expected"),
    [
        ("resnet50", {}, None),
        ("resnet50", {"weights": "DEFAULT"}, {"network": "resnet50", "weights": "DEFAULT"}),
        ("timm/resnet18", {"pretrained": True}, {"network": "timm/resnet18", "weights": None}),
        ("timm/resnet18", {"pretrained": False}, None),
        ("mine:build", {"weights": "DEFAULT"}, None),
    ],
)
def test_whose_weights_are_asked_about(network: str, arguments: dict[str, object], expected: object) -> None:
    assert brought(network, arguments) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, Decoding((224, 224), resize=256)),
        ({"size": 112}, Decoding((112, 112), resize=128)),
        ({"size": [56, 112]}, Decoding((56, 112), resize=128)),
        ({"resize": 300, "interpolation": "bicubic"}, Decoding((224, 224), "rgb", 300, "bicubic")),
        ({"size": 96, "resize": 96}, Decoding((96, 96), resize=96)),
    ],
)
def test_the_recipe_s_words_win(said: dict[str, object], expected: Decoding) -> None:
    section = Data.model_validate({"folder": "photos", **said}).model_dump(mode="json")
    weights = {"network": "resnet50", "weights": "IMAGENET1K_V1"}
    assert decoding_of({**section, "weights": weights}, OTHER) == expected
    plain = Data.model_validate({"folder": "photos"}).model_dump(mode="json")
    assert decoding_of(plain, OTHER) == Decoding((224, 224))
