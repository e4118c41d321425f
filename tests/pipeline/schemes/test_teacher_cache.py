"""A teacher that is asked once, and one whose pass is made cheap: the same answers, as near as numbers allow."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training is torch's")

from torch import Tensor, nn

from pipeline.data.batches import Batch, Epoch, Pixels, training_batches
from pipeline.data.decoded import TRAIN, Decoded
from pipeline.models.cifar import WideResNet
from pipeline.models.split_model import Parts
from pipeline.models.tapped_model import Model, Outputs
from pipeline.recipe.schema import Distill
from pipeline.schemes.base import Setup
from pipeline.schemes.offline import Offline, offline
from pipeline.schemes.teacher_cache import Replayed
from pipeline.training import loop
from pipeline.training.compiled_teacher import COMPILERS, PAYS, compile_teacher, fold, pays
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"))


class Asked:
    """A teacher that counts how often it is asked."""

    def __init__(self, teacher: Parts) -> None:
        self.teacher, self.times = teacher, 0

    def __call__(self, images: Tensor) -> Outputs:
        self.times += 1
        return self.teacher(images)


def batches(data: Decoded, order: int, view: int) -> list[Batch]:
    return list(training_batches(Pixels(data), data.part(TRAIN), 9, tiny.training(), Epoch(0, order, view)))


def replayed(data: Decoded, folder: Path, model: Model) -> Replayed:
    logits, pooled, *_ = model(tiny.pictures(1))
    return Replayed(folder, len(data.labels), logits.shape[1], pooled.shape[1])


def teacher() -> Parts:
    return tiny.parts(tiny.model(tiny.WIDE, seed=2).eval())


def test_the_same_view_of_an_image_is_the_same_pixels_in_any_order(data: Decoded) -> None:
    shown: list[dict[int, bytes]] = []
    for order, view in ((0, 1), (5, 1), (0, 2)):
        together = batches(data, order, view)
        assert {batch.view for batch in together} == {view}
        pixels = {
            int(i): x.numpy().tobytes() for b in together for i, x in zip(b.indices, b.images, strict=True)
        }
        shown.append(pixels)
    first, other_order, other_view = shown
    assert first == other_order and list(first) != list(other_order)
    assert first != other_view


def test_each_view_is_asked_about_once(data: Decoded, tmp_path: Path) -> None:
    asked = Asked(teacher())
    kept = replayed(data, tmp_path, asked.teacher.like)
    expected = {}
    for batch in batches(data, 0, 3):
        found = kept.answers(batch, asked)  # type: ignore[arg-type]
        with torch.no_grad():
            true = asked.teacher(batch.images)
        for mine, theirs in ((found.logits, true.logits), (found.pooled, true.pooled)):
            assert torch.equal(mine, theirs.half().float())
        expected.update(zip(batch.indices.tolist(), found.logits, strict=True))
    assert asked.times == 3
    again = replayed(data, tmp_path, asked.teacher.like)  # a run that was killed finds what is on disk
    for batch in batches(data, 7, 3):
        logits = again.answers(batch, asked).logits  # type: ignore[arg-type]
        assert all(
            torch.equal(row, expected[i]) for i, row in zip(batch.indices.tolist(), logits, strict=True)
        )
    assert asked.times == 3
    again.answers(batches(data, 7, 4)[0], asked)  # type: ignore[arg-type]
    assert asked.times == 4


def scheme(data: Decoded, folder: Path, **more: Any) -> Offline:
    student, guide = tiny.model(tiny.NARROW, seed=1), tiny.model(tiny.WIDE, seed=2)
    recipe = Distill.model_validate({"loss": [{"name": "kd"}], **more})
    return offline(Setup(student, student, [guide], data, recipe, "distill", folder))


def test_a_replayed_training_is_the_training_with_those_views(data: Decoded, tmp_path: Path) -> None:
    """The teacher's float16 aside, which moves the loss in its fourth figure."""
    histories = []
    for replay in (True, False):
        made = scheme(data, tmp_path / str(replay), replay=2)
        if not replay:
            made.guides[0].replayed = None
        (tmp_path / str(replay)).mkdir(exist_ok=True)
        settings = tiny.training(epochs=4, replay=2)
        histories.append(loop.fit(made, data, settings, tmp_path / str(replay), "here"))
    assert histories[0].loss == pytest.approx(histories[1].loss, rel=2e-3)
    assert len(list((tmp_path / "True").rglob("view *.npy"))) == 2


def test_what_is_not_kept_is_refused_and_not_left_out(data: Decoded, tmp_path: Path) -> None:
    batch = batches(data, 0, 0)[0]
    for loss in ("at", "srkd"):
        with pytest.raises(
            Refusal, match=r"distill\.replay: .* looks at its stages; drop replay, or that loss"
        ):
            tiny.losses(scheme(data, tmp_path, replay=1, loss=[{"name": loss}]), batch, 0.5)
    fine = scheme(data, tmp_path / "fine", replay=1, loss=[{"name": "kd"}, {"name": "rkd"}])
    assert tiny.losses(fine, batch, 0.5)["student"].isfinite()


def test_folding_keeps_every_answer_and_every_tap() -> None:
    model = tiny.model(tiny.WIDE, seed=2).eval()
    folded = copy.deepcopy(model)
    fold(folded)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    images = tiny.pictures(6)
    for mine, theirs in zip(folded(images), model(images), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5)


class Stubborn(nn.Module):
    """A tracer cannot follow a network that looks at its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images)) if images.sum() > 0 else images


def test_what_cannot_be_traced_or_shares_its_convolution_is_left_as_it_is() -> None:
    stubborn = Model(Stubborn(), (0.5,) * 3, (0.25,) * 3, ("norm",)).eval()
    fold(stubborn)
    assert isinstance(stubborn.network.norm, nn.BatchNorm2d)

    class Shared(Stubborn):
        def forward(self, images: Tensor) -> Tensor:
            seen = self.conv(images)
            return self.norm(seen) + seen

    shared = Model(Shared(), (0.5,) * 3, (0.25,) * 3, ("norm",)).eval()
    fold(shared)
    assert isinstance(shared.network.norm, nn.BatchNorm2d)


def normalising_first() -> Parts:
    """A network whose batch-norms lie before its convolutions, so that none can be folded."""
    torch.manual_seed(2)
    return tiny.parts(tiny.wrap(WideResNet(10, 1, tiny.CLASSES), tiny.SIDE))


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C++ compiler; apt-get install g++")
@pytest.mark.parametrize("made", [teacher, normalising_first])
def test_a_compiled_teacher_says_the_same_whole_and_in_stages(made: Callable[[], Parts]) -> None:
    """As near to float32 as autocast is, or nearly so."""
    plain, fast, images = made(), made(), tiny.pictures(6)
    compile_teacher(fast)
    left = [m for m in fast.network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(left) == (made is normalising_first)
    assert all(tensor.dtype == torch.float32 for norm in left for tensor in norm.parameters())
    with torch.no_grad():
        exact = plain(images)
        fed = exact.stages[0]
        true = (exact.logits, exact.pooled, plain.stage(1, fed))
        with torch.autocast("cpu", torch.bfloat16):
            usual, found = ((one(images), one.stage(1, fed)) for one in (plain, fast))
    for i, expected in enumerate(true):
        error, allowed = (
            float(((told.logits, told.pooled, stage)[i].float() - expected).abs().max())
            for told, stage in (found, usual)
        )
        assert 0 < error < 4 * allowed < 0.3 * float(expected.abs().max())
    assert fast.compiled and not plain.compiled


def test_compiling_is_for_trainings_that_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    one = [teacher()]
    monkeypatch.setattr("pipeline.training.compiled_teacher.shutil.which", lambda name: f"/usr/bin/{name}")
    assert not pays(one, tiny.SHAPE, 1000) and pays(one, tiny.SHAPE, int(PAYS))
    assert not pays([], tiny.SHAPE, int(PAYS))
    monkeypatch.setattr("pipeline.training.compiled_teacher.shutil.which", lambda name: None)
    assert not pays(one, tiny.SHAPE, int(PAYS))


def test_a_torn_file_of_a_killed_run_is_named(data: Decoded, tmp_path: Path) -> None:
    asked = Asked(teacher())
    batch = batches(data, 0, 3)[0]
    replayed(data, tmp_path, asked.teacher.like).answers(batch, asked)  # type: ignore[arg-type]
    (file,) = tmp_path.rglob("view *.npy")
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(Refusal, match=r"view 3 .*\.npy: broken .*; remove it and run again"):
        replayed(data, tmp_path, asked.teacher.like).answers(batch, asked)  # type: ignore[arg-type]
