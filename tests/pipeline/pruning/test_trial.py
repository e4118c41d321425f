"""Which layers are kept whole: those of which a cut would change what other channels compute, in silence or not."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="cuts are of torch's networks")

from torch import Tensor, nn
from torch.nn.utils import parametrizations

from pipeline.models.tapped_model import Model
from pipeline.pruning.channels import cuts
from pipeline.pruning.shapes import changed, resize, shapes_of
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal

Between = Callable[["Network", Tensor], Tensor]


class Network(nn.Module):
    """A layer, a function of its 16 channels, and two more layers, of which the first can always be cut."""

    def __init__(self, between: Between, reads: int = 16, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.norm, self.between = nn.Conv2d(3, 16, 3), norm or nn.Identity(), between
        self.second, self.third = nn.Conv2d(reads, 24, 3), nn.Conv2d(24, 8, 1)
        self.fc = nn.Linear(8, tiny.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self, self.norm(self.first(x)).relu())
        return self.fc(self.third(self.second(x).relu()).mean((2, 3)))  # type: ignore[no-any-return]


def shuffle(self: nn.Module, x: Tensor) -> Tensor:
    n, channels, *sides = x.shape
    return x.view(n, 2, channels // 2, *sides).transpose(1, 2).reshape(n, channels, *sides)


def halves(self: nn.Module, x: Tensor) -> Tensor:
    left, right = x.chunk(2, 1)
    return left * right.sigmoid()


def keeping(self: nn.Module, x: Tensor) -> Tensor:
    self.kept = x * 2
    return self.kept  # type: ignore[no-any-return,return-value]


WHOLE: dict[str, Callable[[], nn.Module]] = {
    "a shuffle that a cut would shift in silence": lambda: Network(shuffle),
    "channels by their numbers": lambda: Network(lambda _, x: torch.cat([x[:, 4:] * 2, x[:, :4]], 1)),
    "a split into fixed counts": lambda: Network(lambda _, x: torch.cat(x.split([4, 12], 1)[::-1], 1)),
    "a mean over channels": lambda: Network(lambda _, x: x - x.mean(1, keepdim=True)),
    "channels that become positions": lambda: Network(
        lambda _, x: x.reshape(len(x), 4, -1, *x.shape[2:]).flatten(2, 3), reads=4
    ),
}
FREE: dict[str, Callable[[], nn.Module]] = {
    "a map that stays in the module": lambda: Network(keeping),
    "a residual": lambda: Network(lambda _, x: x + x.relu()),
    "a batch-norm": lambda: Network(lambda _, x: x, norm=nn.BatchNorm2d(16)),
    "a norm of groups": lambda: Network(lambda _, x: x, norm=nn.GroupNorm(2, 16)),
    "a norm of each image": lambda: Network(lambda _, x: x, norm=nn.InstanceNorm2d(16, affine=True)),
    "slopes": lambda: Network(lambda _, x: x, norm=nn.PReLU(16)),
    "a transposed convolution": lambda: Network(lambda _, x: x, norm=nn.ConvTranspose2d(16, 16, 2, 2)),
    "a depthwise convolution": lambda: Network(lambda _, x: x, norm=nn.Conv2d(16, 16, 3, groups=16)),
}


def cut(network: nn.Module) -> Model:
    torch.manual_seed(0)
    model = Model(network, tiny.MEAN, tiny.STD, ()).eval()
    *_, last = cuts(model, tiny.square(16), "magnitude", 4, None)
    assert last < 1
    return model


@pytest.mark.parametrize("name", WHOLE)
def test_a_layer_whose_cut_would_change_others_is_kept_whole(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = cut(WHOLE[name]())
    assert model.network.first.out_channels == 16 and model.network.second.out_channels == 4
    assert "groups of layers can lose channels without harm to others; not first:" in capsys.readouterr().err


@pytest.mark.parametrize("name", FREE)
def test_what_follows_channels_is_cut_with_them_and_built_again(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    network = FREE[name]()
    before, uncut = shapes_of(network), copy.deepcopy(network)
    model = cut(network)
    assert model.network.first.out_channels < 16 and not capsys.readouterr().err
    made = Model(resize(uncut, changed(model.network, before)), tiny.MEAN, tiny.STD, ()).eval()
    made.load_state_dict(model.state_dict())
    images = tiny.pictures(3, 16)
    with torch.no_grad():
        model(images)
        assert torch.equal(made(images)[0], model(images)[0])


def test_a_network_without_a_layer_to_cut_is_refused_with_the_reason() -> None:
    body = parametrizations.weight_norm(nn.Conv2d(3, 16, 3))
    network = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, tiny.CLASSES))
    with pytest.raises(Refusal, match=r"prune: none of 1 groups .*; not 0: .*; drop \[prune\]"):
        cut(network)
