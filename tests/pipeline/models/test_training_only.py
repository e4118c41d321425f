"""A network leaves its training without what only training needs, and answers as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the networks are torch's")

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pipeline.artifacts import checkpoint
from pipeline.artifacts.checkpoint import Checkpoint, leave_training
from pipeline.models.answers import check_answers, choose
from pipeline.models.catalogue import build
from pipeline.models.feature_levels import find_levels
from pipeline.models.tapped_model import Model, outputs
from pipeline.models.training_only import folded, layers
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)


class Branches(nn.Module):
    """A 3×3 and a 1×1 convolution with their batch-norms, whose sum is one 3×3 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wide, self.wide_norm = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.point, self.point_norm = nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return (self.wide_norm(self.wide(x)) + self.point_norm(self.point(x))).relu()

    def fused(self) -> tuple[Tensor, Tensor]:
        pairs = ((self.wide, self.wide_norm), (self.point, self.point_norm))
        (w, b), (p, c) = (
            fuse_conv_bn_weights(conv.weight, None, n.running_mean, n.running_var, n.eps, n.weight, n.bias)
            for conv, n in pairs
        )
        return w + nn.functional.pad(p, (1, 1, 1, 1)), b + c


def one(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    made = nn.Conv2d(weight.shape[1], weight.shape[0], 3, 1, 1)
    made.weight.data, made.bias.data = weight.detach().clone(), bias.detach().clone()
    return made


class Fusing(Branches):
    """Gives another module."""

    def fuse(self) -> nn.Module:
        return nn.Sequential(one(*self.fused()), nn.ReLU())


class Switching(Branches):
    """Changes itself, as RepVGG's own blocks do."""

    def switch_to_deploy(self) -> None:
        self.deployed = one(*self.fused())
        for name in ("wide", "wide_norm", "point", "point_norm"):
            delattr(self, name)

    def forward(self, x: Tensor) -> Tensor:
        return self.deployed(x).relu() if hasattr(self, "deployed") else super().forward(x)  # type: ignore[no-any-return]


class Wrong(Branches):
    """Forgets a branch."""

    def fuse(self) -> nn.Module:
        return nn.Sequential(self.wide, self.wide_norm, nn.ReLU())


class Failing(Branches):
    def reparameterize(self) -> None:
        raise KeyError("no such branch")


class Asking(Branches):
    """A method of the same name that is for something else."""

    def fuse(self, others: list[nn.Module]) -> None:
        raise AssertionError("it wants what it was not given")


def net(block: type[Branches]) -> nn.Module:
    body = block(3, 6), nn.MaxPool2d(2), block(6, 8)
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, tiny.CLASSES))


def model_of(network: nn.Module, side: int) -> Model:
    torch.manual_seed(0)
    return Model(tiny.lively(network), tiny.MEAN, tiny.STD, *find_levels(network, tiny.square(side))).eval()


@pytest.mark.parametrize("block", [Fusing, Switching])
def test_branches_become_one_layer(block: type[Branches]) -> None:
    model = model_of(net(block), 16)
    before = tiny.state(model)
    made, said = folded(model, (3, 16, 16))
    assert made is not None
    assert said == "2 training branches folded: 5 convolutions and linear layers are 3"
    assert tiny.same(before, tiny.state(model)) == [], "the network itself is left as it was"
    assert torch.get_default_dtype() == torch.float32
    assert {tensor.dtype for tensor in made.state_dict().values()} == {torch.float32}
    images = tiny.pictures(6)
    with torch.no_grad():
        for mine, theirs in zip(made(images), model(images), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (Branches, ""),
        (Asking, ""),
        (Wrong, "its training branches are not folded: the answers would be"),
        (Failing, "its training branches are not folded: KeyError: 'no such branch'"),
    ],
)
def test_what_cannot_be_folded_stays_and_is_told(block: type[Branches], said: str) -> None:
    model = model_of(net(block), 16)
    made, told = folded(model, (3, 16, 16))
    assert made is None and told.startswith(said) and bool(told) == bool(said)
    assert layers(model) == 5


@pytest.mark.parametrize(
    ("name", "had", "has"), [("repvgg_a0", 45, 23), ("mobileone_s0", 192, 44), ("fastvit_t8", 69, 53)]
)
def test_timm_s_branches_are_folded_and_built_again(name: str, had: int, has: int, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="an optional catalogue")
    model = model_of(build(f"timm/{name}", None, 3, {}, "here").network, 64)
    described = Checkpoint(
        f"timm/{name}", {}, 3, (3, 64, 64), tiny.MEAN, tiny.STD, model.taps, model.head, model.exact
    )
    left = leave_training(described, model)
    assert (layers(model), layers(left.model)) == (had, has)
    assert left.note.startswith(f"{had - has} training branches folded")
    checkpoint.save(tmp_path, left.checkpoint, left.model)
    again, images = checkpoint.load(tmp_path), tiny.pictures(3, 64)
    assert tiny.same(tiny.state(again), tiny.state(left.model)) == []
    with torch.no_grad():
        for mine, theirs in zip(again(images), model(images), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-4 * float(theirs.abs().max()))


class WithHead(nn.Module):
    """A head that answers only in training, made of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, tiny.CLASSES)
        self.aux = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, tiny.CLASSES))

    def forward(self, x: Tensor) -> Any:
        pooled = self.conv(x).mean((2, 3))
        return (self.fc(pooled), self.aux(pooled)) if self.training else self.fc(pooled)


@pytest.mark.parametrize(
    ("name", "side", "arguments", "modules"),
    [
        ("tests", 16, {}, ["aux"]),
        ("googlenet", 32, {"init_weights": False}, ["aux1", "aux2"]),
        ("timm/inception_v3", 299, {"aux_logits": True}, ["AuxLogits"]),
    ],
)
def test_auxiliary_heads_stay_behind(
    name: str, side: int, arguments: dict[str, Any], modules: list[str], tmp_path: Path
) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm", reason="an optional catalogue")
    torch.manual_seed(0)
    network = WithHead() if name == "tests" else build(name, None, tiny.CLASSES, arguments, "here").network
    choice = check_answers(network, tiny.square(side), (tiny.CLASSES,), "here")
    choose(network, choice)
    model, images = model_of(network, side), tiny.pictures(2, side)
    with torch.no_grad():
        expected = model(images)
    described = Checkpoint(
        name,
        arguments,
        tiny.CLASSES,
        tiny.square(side),
        tiny.MEAN,
        tiny.STD,
        model.taps,
        model.head,
        model.exact,
        choice,
    )
    left = leave_training(described, model)
    assert list(left.checkpoint.edits) == [{"edit": "drop", "modules": modules}]
    assert not [
        key for key in left.model.state_dict() if key.startswith(tuple(f"network.{m}" for m in modules))
    ]
    with torch.no_grad():
        assert all(
            torch.equal(mine, theirs) for mine, theirs in zip(left.model(images), expected, strict=True)
        )
        if name != "timm/inception_v3":  # pruned, it is trained again
            assert outputs(left.model.train()(images)).auxiliary == ()
    if name == "googlenet":
        checkpoint.save(tmp_path, left.checkpoint, left.model)
        assert tiny.same(tiny.state(checkpoint.load(tmp_path)), tiny.state(left.model)) == []
