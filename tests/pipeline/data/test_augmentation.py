"""What an image looks like in training: crops, mirrors, covered squares and mixtures, as the field has them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training is torch's")

from scipy import stats
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as vision

from pipeline.data import batches
from pipeline.data.augmentation import Views, crop_and_flip, cut_out, draw
from pipeline.data.batches import Batch, Epoch, Mixed, Pixels, plain_batches, training_batches
from pipeline.data.decoded import TRAIN, Decoded, Facts
from pipeline.losses import LOSSES, bind_losses
from pipeline.recipe.schema import Loss, Training
from pipeline.schemes.offline import Guide, Offline
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal
from targets.image_folder import Decoding

MANY = 20_000


def facts(side: int, flip: bool = False, width: int | None = None) -> Facts:
    return Facts(("a", "b"), Decoding((side, width or side)), flip, tiny.MEAN, tiny.STD)


def drawn(count: int, of: Facts, **settings: Any) -> Views:
    return draw(count, of, tiny.training(**settings), torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"))


@pytest.mark.parametrize("flip", [True, False])
def test_crops_and_mirrors_are_torchvision_s(flip: bool) -> None:
    image = torch.arange(1, 8 * 8 * 3 + 1, dtype=torch.uint8).view(8, 8, 3)
    padded = vision.pad(image.permute(2, 0, 1), [1])
    expected = []
    for top, left, mirror in itertools.product(range(3), range(3), (False, True)[: 1 + flip]):
        crop = vision.crop(padded, top, left, 8, 8)
        expected.append((vision.horizontal_flip(crop) if mirror else crop).permute(1, 2, 0).numpy().tobytes())
    assert len(set(expected)) == 9 * (1 + flip)
    count = 200 * len(expected)
    views = drawn(count, facts(8, flip))
    shown = crop_and_flip(image.expand(count, 8, 8, 3), views.corners, views.mirrored)
    counts = dict.fromkeys(expected, 0)
    for one in shown.numpy():
        counts[one.tobytes()] += 1  # a KeyError here is an image that torchvision cannot make
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_wide_images_are_cropped_covered_and_mirrored_too() -> None:
    """Columns are drawn over the width, rows over the height; each view is one of torchvision's."""
    image = torch.randint(1, 255, (8, 24, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    padded = vision.pad(image.permute(2, 0, 1), [3, 1])
    views = drawn(2000, facts(8, True, width=24), cutout=4)
    assert views.holes is not None
    assert views.corners.amax(0).tolist() == [2, 6] and views.holes.amax(0).tolist() == [7, 23]
    shown = crop_and_flip(image.expand(2000, 8, 24, 1), views.corners, views.mirrored)
    for (top, left), mirrored, one in zip(views.corners.tolist()[:50], views.mirrored, shown, strict=False):
        crop = vision.crop(padded, top, left, 8, 24)
        expected = vision.horizontal_flip(crop) if mirrored else crop
        assert torch.equal(expected.permute(1, 2, 0), one)
    covered = cut_out(shown, views.holes, 4, torch.zeros(1, dtype=torch.uint8))
    for (row, column), one in zip(views.holes.tolist()[:50], covered, strict=False):
        hole = one[max(0, row - 2) : row + 2, max(0, column - 2) : column + 2]
        assert int(hole.max()) == 0


@pytest.mark.parametrize("size", [1, 4, 5, 8])
def test_a_hole_of_each_middle_is_as_likely_and_ends_at_the_edge(size: int) -> None:
    """Against the definition, pixel by pixel, for every middle; how often each middle is drawn, by chi-square."""
    image = torch.full((8, 8, 3), 200, dtype=torch.uint8)
    colour = torch.tensor([10, 20, 30], dtype=torch.uint8)
    middles = torch.tensor(list(itertools.product(range(8), range(8))))
    found = cut_out(image.expand(64, 8, 8, 3), middles, size, colour)
    for (row, column), one in zip(middles.tolist(), found, strict=True):
        covered = np.zeros((8, 8), bool)
        top, left = row - size // 2, column - size // 2
        covered[max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)] = True
        assert np.array_equal((one == colour).all(-1).numpy(), covered)
        assert bool((one[~torch.from_numpy(covered)] == 200).all())
    holes = drawn(MANY, facts(8), cutout=size).holes
    assert holes is not None
    assert stats.chisquare(np.bincount((holes @ torch.tensor([8, 1])).numpy(), minlength=64)).pvalue > 0.01


def test_a_hole_larger_than_an_image_is_refused() -> None:
    with pytest.raises(Refusal, match="cutout = 9: the images have 8 pixels a side"):
        drawn(4, facts(8), cutout=9)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_shares_of_a_mixture_are_torchvision_s(alpha: float) -> None:
    """Its MixUp draws one share a batch, and each image meets another of the batch; here each has its own."""
    from torchvision.transforms.v2 import MixUp

    torch.manual_seed(1)
    theirs = MixUp(alpha=alpha, num_classes=2)
    sampled = [theirs.make_params([torch.zeros(2, 3, 4, 4)])["lam"] for _ in range(2_000)]
    views = drawn(MANY, facts(8), mixup=alpha)
    assert views.shares is not None and views.partners is not None
    assert stats.ks_2samp(views.shares.numpy(), sampled).pvalue > 0.01
    few = [
        draw(7, facts(8), tiny.training(mixup=alpha), torch.Generator().manual_seed(seed))
        for seed in range(700)
    ]
    steps = torch.stack([(one.partners - torch.arange(7)) % 7 for one in few if one.partners is not None])
    assert int(steps.min()) == 1, "an image is never mixed with itself"
    assert stats.chisquare(np.bincount(steps.flatten().numpy())[1:]).pvalue > 0.01


def one_epoch(data: Decoded, rank: int = 0, ranks: int = 1, **settings: Any) -> list[Batch]:
    asked = tiny.training(batch=8, **settings)
    return list(
        training_batches(Pixels(data), data.part(TRAIN), asked.batch, asked, Epoch(3, 1, 2), rank, ranks)
    )


def test_a_mixed_image_is_two_images_in_their_own_views(data: Decoded) -> None:
    part = data.part(TRAIN)
    mixed, apart = one_epoch(data, mixup=0.4, cutout=5), one_epoch(data, cutout=5)
    alone = {int(i): image for batch in apart for i, image in zip(batch.indices, batch.images, strict=True)}
    views = draw(len(part), data.facts, tiny.training(mixup=0.4, cutout=5), Epoch(3, 1, 2).generator(1, 2))
    assert views.partners is not None and views.shares is not None
    compared = 0
    for batch in mixed:
        assert batch.mixed is not None
        for row, index in enumerate(batch.indices.tolist()):
            place = int(np.flatnonzero(part == index)[0])
            other, share = int(part[views.partners[place]]), float(views.shares[place])
            assert int(batch.mixed.labels[row]) == data.labels[other]
            assert float(batch.mixed.shares[row]) == pytest.approx(share)
            if other in alone:  # not of the rest that this epoch leaves out
                expected = share * alone[index] + (1 - share) * alone[other]
                assert torch.allclose(batch.images[row], expected, atol=1e-6)
                compared += 1
    assert compared > 10


PHOTOGRAPHS = {
    "crop_scale": (0.2, 1.0), "jitter": 0.4, "trivialaugment": True, "erasing": 0.5, "cutmix": 1.0
}  # fmt: skip


@pytest.mark.parametrize("settings", [{"mixup": 1.0, "cutout": 4}, PHOTOGRAPHS])
def test_two_ranks_share_a_batch_and_no_image_is_another_for_it(
    data: Decoded, settings: dict[str, Any]
) -> None:
    whole, *halves = (one_epoch(data, *where, **settings) for where in ((0, 1), (0, 2), (1, 2)))
    for both, first, second in zip(whole, *halves, strict=True):
        joined = torch.cat([first.indices, second.indices]).argsort()
        assert torch.equal(
            torch.cat([first.images, second.images])[joined], both.images[both.indices.argsort()]
        )


def test_a_set_that_lies_on_the_device_gives_the_same_batches(
    data: Decoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = one_epoch(data, mixup=1.0)
    monkeypatch.setattr(batches, "spare", lambda device: 1 << 40)
    assert Pixels(data).near is not None
    for one, other in zip(far, one_epoch(data, mixup=1.0), strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_mixed_labels_is_that_of_soft_targets(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, shares = torch.randn(6, 4), torch.rand(6)
    own, other = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 0, 2, 3, 0])
    soft = shares[:, None] * F.one_hot(own, 4) + (1 - shares[:, None]) * F.one_hot(other, 4)
    expected = F.cross_entropy(logits, soft, label_smoothing=smoothing)
    batch = Batch(torch.zeros(6), own, own, 0, Mixed(other, shares))
    loss = tiny.labels(smoothing)
    assert torch.allclose(loss.of(logits, batch), expected)
    plain = loss.of(logits, replace(batch, mixed=None))
    assert torch.allclose(plain, F.cross_entropy(logits, own, label_smoothing=smoothing), 1e-6, 0)


# Which losses look at an image's one label: by their equations.
LABELLED = {
    "conditional", "ka-shift", "ka-smooth", "tf-kd", "dkd", "category", "crd", "stage-by-stage", "tofd"
}  # fmt: skip


def terms(name: str) -> Iterator[tuple[float, Tensor]]:
    student, teacher = tiny.model(seed=1), tiny.teacher_for(name)
    lines = [Loss(name=name, ramp=0.0, stop=1.0)]
    guide = Guide(tiny.parts(teacher), bind_losses(lines, tiny.shapes_of(student, teacher), "here"), 1.0)
    scheme = Offline(tiny.parts(student), [guide], tiny.labels(0.0))
    labels = torch.arange(6) % tiny.CLASSES
    batch = Batch(tiny.pictures(6), labels, torch.arange(6), 0, Mixed(labels.flip(0), torch.rand(6)))
    for progress in (0.0, 0.5, 0.99):
        yield progress, tiny.losses(scheme, batch, progress)["student"]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_takes_mixed_images_or_says_that_it_wants_one_label(name: str) -> None:
    if name in LABELLED:
        with pytest.raises(Refusal, match="a mixed image has two labels"):
            list(terms(name))
    else:
        assert all(bool(value.isfinite()) for _, value in terms(name))


def test_plain_batches_are_never_mixed(data: Decoded) -> None:
    assert all(batch.mixed is None for batch in plain_batches(data, data.part(TRAIN), 8))


def test_no_setting_is_the_plain_protocol() -> None:
    assert (Training().cutout, Training().mixup) == (0, 0.0)
