"""What photographs are shown as: crops, colours, erased and pasted boxes, against torchvision's v2 transforms.

What is done with drawn parameters is compared with torchvision's own function of these; the parameters' distribution
with a simulation by torchvision's own drawing.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training is torch's")

from scipy import stats
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as vision

from pipeline.data.augmentation import Views, augmented, draw, mix
from pipeline.data.boxes import inside, middle, pasted_boxes, random_crops, resized_crops
from pipeline.data.colours import WIDE, jittered, trivially_augmented
from pipeline.data.decoded import Facts
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.image_folder import Decoding

SIDES = (24, 36)
MANY, SIMULATED = 4_000, 2_000
GREY = torch.zeros(3, dtype=torch.uint8)


def facts(sides: tuple[int, int] = SIDES) -> Facts:
    return Facts(("a", "b"), Decoding(sides), True, tiny.MEAN, tiny.STD)


def drawn(count: int, sides: tuple[int, int] = SIDES, **settings: Any) -> Views:
    return draw(count, facts(sides), tiny.training(**settings), torch.Generator().manual_seed(5))


def photographs(count: int, channels: int = 3) -> Tensor:
    """(N, H, W, C) uint8, smooth in part as photographs are."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, channels, 6, 9, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, SIDES, mode="bilinear")
    noise = 0.2 * torch.rand(count, channels, *SIDES, generator=generator)
    return (255 * (0.8 * smooth + noise)).round().to(torch.uint8).permute(0, 2, 3, 1)


def planes(image: Tensor) -> Tensor:
    return image.permute(2, 0, 1)


def same_distribution(ours: Tensor, theirs: Tensor) -> None:
    """Column by column, and by the products of two, as columns depend on each other."""
    pairs = itertools.combinations_with_replacement(range(ours.shape[1]), 2)
    for one, other in pairs:
        values = [
            (each[:, one] * each[:, other] if one != other else each[:, one]) for each in (ours, theirs)
        ]
        assert stats.ks_2samp(*(value.double().numpy() for value in values)).pvalue > 0.001, (one, other)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_crop_is_torchvision_s_resized_crop(channels: int) -> None:
    images, views = photographs(60, channels), drawn(60, crop_scale=(0.08, 1.0))
    assert views.crops is not None
    found = resized_crops(images, views.crops, views.mirrored)
    for image, box, mirrored, one in zip(images, views.crops.tolist(), views.mirrored, found, strict=True):
        exact = vision.resized_crop(planes(image).float(), *box, list(SIDES), antialias=True)
        exact = vision.horizontal_flip(exact) if mirrored else exact
        assert float((planes(one).float() - exact).abs().max()) <= 0.5 + 1e-3, "rounded, and nothing else"
    whole = torch.tensor([[0, 0, *SIDES]]).expand(60, 4)
    assert torch.equal(resized_crops(images, whole, torch.zeros(60, dtype=torch.bool)), images)


@pytest.mark.parametrize(
    ("sides", "scale"), [(SIDES, (0.08, 1.0)), ((24, 24), (0.5, 0.9)), ((8, 40), (0.3, 1.0))]
)
def test_crops_are_drawn_as_torchvision_draws_them(
    sides: tuple[int, int], scale: tuple[float, float]
) -> None:
    torch.manual_seed(0)
    theirs = v2.RandomResizedCrop(sides, scale=scale)
    sample = [theirs.make_params([torch.zeros(3, *sides)]) for _ in range(SIMULATED)]
    expected = torch.tensor([[one[name] for name in ("top", "left", "height", "width")] for one in sample])
    found = random_crops(MANY, sides, scale, torch.Generator().manual_seed(5))
    same_distribution(found, expected)
    assert int((found[:, :2] + found[:, 2:] > torch.tensor(sides)).sum()) == 0


@pytest.mark.parametrize("sides", [(8, 40), (40, 8), (24, 30)])
def test_where_no_crop_fits_the_middle_is_taken(sides: tuple[int, int]) -> None:
    theirs = v2.RandomResizedCrop(sides, scale=(50.0, 50.0))
    expected = theirs.make_params([torch.zeros(3, *sides)])
    assert middle(*sides) == tuple(expected[name] for name in ("top", "left", "height", "width"))
    found = random_crops(3, sides, (50.0, 50.0), torch.Generator())
    assert found.tolist() == [list(middle(*sides))] * 3


def test_jitter_is_torchvision_s_with_the_drawn_factors() -> None:
    images, views = photographs(40), drawn(40, jitter=0.4)
    assert views.jitters is not None
    theirs = v2.ColorJitter(0.4, 0.4, 0.4)
    for image, row, one in zip(images, views.jitters.tolist(), jittered(images, views.jitters), strict=True):
        names = ("brightness_factor", "contrast_factor", "saturation_factor")
        given = {**dict(zip(names, row[:3], strict=True)), "hue_factor": None, "fn_idx": map(int, row[3:])}
        assert torch.equal(planes(one), theirs.transform(planes(image), given))


def test_jitters_are_drawn_as_torchvision_draws_them() -> None:
    torch.manual_seed(0)
    theirs = v2.ColorJitter(0.4, 0.4, 0.4)
    sample = [theirs.make_params([]) for _ in range(SIMULATED)]
    factors = [[one[f"{name}_factor"] for name in ("brightness", "contrast", "saturation")] for one in sample]
    views = drawn(MANY, jitter=0.4)
    assert views.jitters is not None
    same_distribution(views.jitters[:, :3], torch.tensor(factors))
    orders = views.jitters[:, 3:].long() @ torch.tensor([9, 3, 1])
    counts = orders.unique(return_counts=True)[1]
    assert len(counts) == 6 and stats.chisquare(counts.numpy()).pvalue > 0.001


NAMES = list(v2.TrivialAugmentWide._AUGMENTATION_SPACE)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("which", range(len(WIDE)), ids=NAMES)
def test_every_operation_at_every_strength_is_torchvision_s(which: int, channels: int) -> None:
    values, signed = v2.TrivialAugmentWide._AUGMENTATION_SPACE[NAMES[which]]
    strengths = values(31, *SIDES)
    strengths = [0.0] if strengths is None else strengths.float().tolist()
    weakest, strongest = WIDE[which][1:3]
    assert [weakest, strongest] == pytest.approx([strengths[0], strengths[-1]])
    assert WIDE[which][3] == signed
    tried = [sign * value for value in strengths[::3] for sign in ((1, -1) if signed else (1,))]
    images = photographs(len(tried), channels)
    found = trivially_augmented(images, torch.tensor([[which, value] for value in tried]))
    theirs = v2.TrivialAugmentWide()
    for image, value, one in zip(images, tried, found, strict=True):
        expected = theirs._apply_image_or_video_transform(
            planes(image), NAMES[which], float(torch.tensor(value)), theirs.interpolation, theirs._fill
        )
        assert torch.equal(planes(one), expected), value


def test_operations_and_strengths_are_drawn_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []
    theirs = v2.TrivialAugmentWide()
    monkeypatch.setattr(
        theirs,
        "_apply_image_or_video_transform",
        lambda image, name, magnitude, **_: (asked.append((NAMES.index(name), magnitude)), image)[1],
    )
    torch.manual_seed(0)
    for _ in range(SIMULATED):
        theirs(torch.zeros(3, *SIDES, dtype=torch.uint8))
    choices = drawn(MANY, trivialaugment=True).choices
    assert choices is not None
    expected = torch.tensor(asked)
    assert stats.chisquare(choices[:, 0].long().bincount(minlength=14).numpy()).pvalue > 0.001
    for which in range(len(WIDE)):
        ours, others = (each[each[:, 0] == which, 1].double() for each in (choices, expected))
        if len(others.unique()) > 1:  # posterize has 7 values, the others 31 or 61
            assert stats.ks_2samp(ours.numpy().round(4), others.numpy().round(4)).pvalue > 0.001
            assert set(ours.numpy().round(0)) == set(others.numpy().round(0)) or len(others.unique()) > 7


@pytest.mark.parametrize("sides", [SIDES, (12, 60)])
def test_boxes_are_erased_as_torchvision_erases_them(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theirs = v2.RandomErasing(p=1.0)
    sample = [theirs.make_params([torch.zeros(3, *sides)]) for _ in range(SIMULATED)]
    rows = [[one[name] if one["v"] is not None else 0 for name in "ijhw"] for one in sample]
    found = drawn(MANY, sides, erasing=1.0).erased
    assert found is not None
    same_distribution(found, torch.tensor(rows))
    half = drawn(MANY, sides, erasing=0.5).erased
    assert half is not None
    ever = float((found[:, 2] > 0).float().mean())
    assert float((half[:, 2] > 0).float().mean()) == pytest.approx(ever / 2, abs=0.03)


def test_what_is_erased_has_the_set_s_colour() -> None:
    images, colour = photographs(20), torch.tensor([1, 2, 3], dtype=torch.uint8)
    views = drawn(20, erasing=1.0)
    assert views.erased is not None
    plain = augmented(images, replace(views, erased=None), 0, colour)
    for image, box, one in zip(
        plain, views.erased.tolist(), augmented(images, views, 0, colour), strict=True
    ):
        top, left, height, width = box
        value = colour.view(3, 1, 1).expand(3, height, width)
        assert torch.equal(planes(one), vision.erase(planes(image), top, left, height, width, value))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 1.0])
def test_pasted_boxes_are_cutmix_s(share: float) -> None:
    """torchvision draws one box a batch from one share; here each image has its own."""
    torch.manual_seed(0)
    theirs = v2.CutMix(num_classes=2)
    theirs._dist = torch.distributions.Categorical(torch.ones(1))
    theirs._dist.sample = lambda *_: torch.tensor([share])  # type: ignore[method-assign]
    sample = [theirs.make_params([torch.zeros(2, 3, *SIDES)]) for _ in range(SIMULATED)]
    expected = [[one["box"][1], one["box"][0], one["box"][3], one["box"][2]] for one in sample]
    found, remain = pasted_boxes(torch.full((MANY,), share), SIDES, torch.Generator().manual_seed(5))
    same_distribution(torch.cat([found[:, :2], found[:, :2] + found[:, 2:]], 1), torch.tensor(expected))
    left = np.array([one["lam_adjusted"] for one in sample])
    assert stats.ks_2samp(remain.double().numpy().round(5), left.round(5)).pvalue > 0.001


def test_mixtures_are_boxes_or_the_whole() -> None:
    views = drawn(MANY, mixup=0.8, cutmix=1.0)
    assert views.pasted is not None and views.shares is not None
    whole = views.pasted[:, 2] * views.pasted[:, 3] == 0
    assert float(whole.float().mean()) == pytest.approx(0.5, abs=0.05)
    images, added = torch.rand(MANY, 1, *SIDES), torch.rand(MANY, 1, *SIDES)
    found = mix(images, added, views.shares, views.pasted)
    mask = inside(views.pasted, SIDES)[:, None]
    assert torch.equal(found[~whole], torch.where(mask, added, images)[~whole])
    lerped = torch.lerp(added, images, views.shares[:, None, None, None])
    assert torch.equal(found[whole], lerped[whole])
    covered = mask.float().mean((1, 2, 3))
    assert torch.allclose(1 - covered[~whole], views.shares[~whole], atol=1e-5)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_the_shares_that_remain_are_cutmix_s(alpha: float) -> None:
    torch.manual_seed(0)
    theirs = v2.CutMix(alpha=alpha, num_classes=2)
    sample = [theirs.make_params([torch.zeros(2, 3, *SIDES)])["lam_adjusted"] for _ in range(SIMULATED)]
    shares = drawn(MANY, cutmix=alpha).shares
    assert shares is not None
    assert stats.ks_2samp(shares.double().numpy().round(5), np.array(sample).round(5)).pvalue > 0.001
