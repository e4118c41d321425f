"""Cuts: what is dead is what goes, counts stay multiples, and shapes alone build the network again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="cuts are of torch's networks")

from torch import Tensor, nn

from pipeline.artifacts import checkpoint
from pipeline.artifacts.checkpoint import Checkpoint
from pipeline.models.catalogue import build, macs
from pipeline.models.tapped_model import Model
from pipeline.pruning.channels import cuts
from pipeline.pruning.criteria import CRITERIA, NEED_GRADIENTS
from pipeline.pruning.shapes import Shapes, changed, resize, shapes_of
from pipeline.quantization.ptq import calibrated
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import WRONG_INPUT, Refusal

Leave = Callable[[nn.Module], None]
# Where channels are killed: the layers that make them (with their batch-norms), those that read them, and which.
Dead = tuple[Sequence[tuple[str, str]], Sequence[str], list[int]]
INNER = [(f"layer{n}.0.conv1", f"layer{n}.0.bn1", f"layer{n}.0.conv2") for n in (1, 2, 3)]
DEAD: dict[str, list[Dead]] = {
    "resnet8": [
        *(([(conv, bn)], [after], [1, 3, 6, 7]) for conv, bn, after in INNER),
        (
            [("layer3.0.conv2", "layer3.0.bn2"), ("layer3.0.shortcut.0", "layer3.0.shortcut.1")],
            ["fc"],
            [0, 9, 11, 40],
        ),
    ],
    "vgg8": [
        ([("stage1.0", "stage1.1")], ["stage2.1"], list(range(5, 37))),
        ([("stage5.1", "stage5.2")], ["fc"], list(range(0, 64, 4))),
    ],
}


def made(name: str, classes: int = tiny.CLASSES, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return Model(
        tiny.lively(build(name, None, classes, {}, "network").network, seed), tiny.MEAN, tiny.STD, ()
    ).eval()


def inputs(side: int) -> Tensor:
    return (tiny.pictures(16, side) - 0.4) / 0.25


def gradients(criterion: str, side: int = tiny.SIDE) -> Leave | None:
    """For a criterion that wants them: of a loss that never saturates, or live channels would have none."""

    def leave(network: nn.Module) -> None:
        network.zero_grad()
        answers = network(inputs(side))
        (answers * torch.randn(answers.shape, generator=torch.Generator().manual_seed(7))).sum().backward()

    return leave if criterion in NEED_GRADIENTS else None


@torch.no_grad()
def kill(network: nn.Module, dead: Sequence[Dead], readers: bool) -> None:
    """Weights, scale and shift at zero; ``readers``: nor does anybody read the channels any more.

    All others are made to fire on some image, or they would be as dead by their gradients.
    """
    for makers, after, few in dead:
        for conv, bn in makers:
            network.get_submodule(conv).weight[few] = 0  # type: ignore[index, operator]
            for key in ("weight", "bias"):
                getattr(network.get_submodule(bn), key)[few] = 0
        for name in after if readers else ():
            network.get_submodule(name).weight[:, few] = 0  # type: ignore[index, operator]
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(inputs(32))
    network.eval()


@pytest.mark.parametrize("name", DEAD)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_dead_channels_are_what_is_cut_and_nobody_misses_them(criterion: str, name: str) -> None:
    model = made(name)
    # The magnitude of a channel counts those that read it as well.
    kill(model.network, DEAD[name], readers=criterion == "magnitude")
    uncut, side = copy.deepcopy(model), 32
    next(s for s in cuts(model, tiny.square(side), criterion, 4, gradients(criterion, side)) if s < 1)
    for makers, after, few in DEAD[name]:
        for conv, bn in makers:
            before, now = (m.network.get_submodule(bn).running_mean for m in (uncut, model))
            assert isinstance(before, Tensor) and isinstance(now, Tensor)
            alive = [c for c in range(len(before)) if c not in few]
            assert torch.equal(now, before[alive]), bn
            assert model.network.get_submodule(conv).out_channels == len(alive)
        for layer in after:
            before, now = (m.network.get_submodule(layer).weight for m in (uncut, model))
            assert isinstance(before, Tensor) and isinstance(now, Tensor)
            assert now.shape[1] == before.shape[1] - len(few), layer
    images = tiny.pictures(8, side).double()
    with torch.no_grad():
        expected, found = uncut.double()(images)[0], model.double()(images)[0]
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    assert expected.std(0).min() > 0, "answers that never change would prove nothing"


@pytest.mark.parametrize("multiple", [1, 4, 8])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_shares_fall_and_counts_are_multiples(criterion: str, multiple: int) -> None:
    model = tiny.model((16, 16, 20, 36))
    original, before = shapes_of(model.network), macs(model.network, torch.zeros(1, 3, tiny.SIDE, tiny.SIDE))
    last, images = 1.0, tiny.pictures(3)
    for left in cuts(model, tiny.SHAPE, criterion, multiple, gradients(criterion)):
        assert 0 < left <= last
        last = left
        assert left == macs(model.network, torch.zeros(1, 3, tiny.SIDE, tiny.SIDE)) / before
        now = changed(model.network, original)
        counts = [
            new for name in now for new, old in zip(now[name], original[name], strict=True) if new != old
        ]
        assert all(count % multiple == 0 and count > 0 for count in counts), now
        with torch.no_grad():
            assert model(images)[0].shape == (3, tiny.CLASSES)
    assert last < 0.5, "it hardly cut"


def cut_to(model: Model, side: int, share: float, multiple: int = 8, criterion: str = "magnitude") -> Shapes:
    """Cut to a share; what has changed."""
    original = shapes_of(model.network)
    for left in cuts(model, tiny.square(side), criterion, multiple, gradients(criterion, side)):
        if left <= share:
            break
    now = changed(model.network, original)
    assert now, "nothing was cut"
    return now


# densenet121 does as well, but 20 s for a cut of it are too many here.
@pytest.mark.parametrize(
    ("name", "side"),
    [("resnet8", 32), ("wrn_16_1", 32), ("vgg8", 32), ("mobilenet_v2", 32), ("squeezenet1_1", 64)],
)
def test_shapes_alone_build_a_cut_network_again(name: str, side: int) -> None:
    model = made(name)
    shapes = cut_to(model, side, 0.6)
    fresh = made(name, seed=5)
    assert resize(fresh.network, shapes) is fresh.network
    fresh.load_state_dict(model.state_dict())
    images = tiny.pictures(4, side)
    with torch.no_grad():
        expected, found = model(images), fresh(images)
    assert found[0].shape == (4, tiny.CLASSES)
    assert float((found[0] - expected[0]).abs().max()) == 0
    told = [{k: getattr(m, k) for k in SIZES if hasattr(m, k)} for m in fresh.modules()]
    assert told == [{k: getattr(m, k) for k in SIZES if hasattr(m, k)} for m in model.modules()]
    fresh.train()(images)[0].sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in fresh.parameters())


SIZES = ("in_channels", "out_channels", "groups", "num_features", "in_features", "out_features")


def test_what_cannot_be_traced_is_refused_in_one_line() -> None:
    said = r"prune: torch-pruning cannot cut .*near layer stage4\.1\..*ZeroDivisionError.*; drop \[prune\]"
    with pytest.raises(Refusal, match=said) as caught:
        next(cuts(made("shufflenet_v2_x1_0"), (3, 32, 32), "magnitude", 8, None))
    assert "\n" not in str(caught.value) and caught.value.status == WRONG_INPUT


class TwoHeads(nn.Module):
    """Two layers whose answers are averaged, as a distilled transformer has them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.body, self.second = nn.Linear(16, 16), nn.Conv2d(3, 16, 3), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.body(x).mean((2, 3))
        return (self.first(pooled) + self.second(pooled)) / 2  # type: ignore[no-any-return]


def test_every_layer_that_answers_keeps_its_classes() -> None:
    model = Model(TwoHeads(), tiny.MEAN, tiny.STD, ())
    shares = list(cuts(model, (3, 16, 16), "magnitude", 8, None))
    assert shares[-1] < 1 and model.network.body.out_channels == 8
    assert model.network.first.weight.shape == model.network.second.weight.shape == (16, 8)


def test_no_change_is_no_shapes() -> None:
    network = tiny.network()
    assert changed(network, shapes_of(network)) == {}
    before = tiny.state(network)
    assert tiny.same(before, tiny.state(resize(network, {}))) == []


FACTORY = """
from pipeline.models.cifar import CifarResNet
def wide(classes): return CifarResNet(8, (16, 16, 32, 48), classes)
"""


@pytest.fixture
def described(tmp_path: Path) -> Checkpoint:
    source = tmp_path / "mine.py"
    source.write_text(FACTORY)
    stages = ("layer1", "layer2", "layer3")
    facts = (tiny.CLASSES, tiny.SHAPE, tiny.MEAN, tiny.STD, stages)
    return Checkpoint("mine:wide", {}, *facts, files={"code/mine.py": source})


def kept(folder: Path, described: Checkpoint, model: nn.Module) -> nn.Module:
    """Saved, loaded, and compared to the bit."""
    folder.mkdir()
    checkpoint.save(folder, described, model)
    loaded = checkpoint.load(folder)
    images = tiny.pictures(9, seed=5)
    assert tiny.same(tiny.state(model), tiny.state(loaded)) == []
    with torch.no_grad():
        for mine, theirs in zip(loaded(images), model(images), strict=True):
            assert torch.equal(mine, theirs)
    return loaded


def test_a_network_cut_twice_and_quantized_is_kept_to_the_bit(described: Checkpoint, tmp_path: Path) -> None:
    model, data = (
        tiny.model((16, 16, 32, 48), seed=1),
        tiny.write_set(tmp_path / "data", classes=tiny.CLASSES),
    )
    for turn, share in (("once", 0.7), ("twice", 0.5)):
        described = described.edited(edit="cut", shapes=cut_to(model, tiny.SIDE, share, multiple=4))
        loaded = kept(tmp_path / turn, described, model)
        assert isinstance(loaded, Model)
        model = loaded
    assert [edit["edit"] for edit in checkpoint.read(tmp_path / "twice").edits] == ["cut", "cut"]
    grid = calibrated(model, data, 16)
    kept(tmp_path / "grid", described.edited(edit="quantize"), grid)
    assert [edit["edit"] for edit in checkpoint.read(tmp_path / "grid").edits] == ["cut", "cut", "quantize"]
