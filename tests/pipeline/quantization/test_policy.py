"""Which tensors of a network are on the grid."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="the grid is torch's")

from torch import fx, nn

from pipeline.models.catalogue import build
from pipeline.quantization.grid import is_rounding, leaves
from pipeline.quantization.ptq import prepare
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)


def check_rounded(graph: fx.GraphModule, network: nn.Module) -> None:
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    nodes = tiny.layers(graph)
    assert len(nodes) == len(layers)
    for node in nodes:
        assert is_rounding(graph, node.args[0]) and is_rounding(graph, node.args[1]), node.name
        assert node.args[2] is None or not is_rounding(graph, node.args[2])


def test_every_layer_of_resnet8_is_on_the_grid() -> None:
    graph = tiny.graph()
    check_rounded(graph, tiny.model().network)
    sums = [n for n in graph.graph.nodes if str(n.target).startswith("aten.add.")]
    assert len([n for n in sums if all(is_rounding(graph, arg) for arg in n.args)]) == 3


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small"])
def test_torchvision_s_mobile_networks_are_on_the_grid(name: str) -> None:
    """Behind each convolution too, or behind its ReLU: before HardSwish, HardSigmoid and the products of SE."""
    torch.manual_seed(0)
    model = tiny.wrap(build(name, None, 3, {}, "here").network, side=32)
    graph = prepare(model, (3, 32, 32))
    check_rounded(graph, model.network)
    for node in tiny.layers(graph)[:-1]:
        for reader in (one for one in node.users if not leaves(one)):
            assert (
                is_rounding(graph, reader) or "relu" in str(reader.target) or "hardtanh" in str(reader.target)
            )


def residual(norm: nn.Module) -> fx.GraphModule:
    """relu(x) + conv(x), normalised, into a linear layer, as a transformer's residual stream is."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 3, 1), norm, nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(x.relu() + self.conv(x)).mean([1, 2]))

    torch.manual_seed(0)
    return prepare(Net(), (3, 8, 8))


@pytest.mark.parametrize(("norm", "rounded"), [(nn.LayerNorm(8), 1), (nn.ReLU(), 2)])
def test_a_sum_that_only_a_normalisation_reads_stays_float(norm: nn.Module, rounded: int) -> None:
    """The convolution's own output is rounded either way, the other summand only for an int8 sum."""
    graph = residual(norm)
    (add,) = [node for node in graph.graph.nodes if "aten.add" in str(node.target)]
    assert [is_rounding(graph, arg) for arg in add.args].count(True) == rounded


def test_a_pool_that_chooses_keeps_the_grid_of_its_input() -> None:
    """squeezenet's pools read concatenations: input and output share one rounding."""
    torch.manual_seed(0)
    graph = prepare(tiny.wrap(build("squeezenet1_1", None, 3, {}, "here").network, side=32), (3, 32, 32))
    pools = [node for node in graph.graph.nodes if "max_pool2d" in str(node.target)]
    assert len(pools) == 3
    for pool in pools:
        (behind,) = pool.users
        assert behind.target == pool.args[0].target


def halves(x: torch.Tensor) -> torch.Tensor:
    left, right = x.chunk(2, 1)
    return torch.cat([right, left], 1)


def corners(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, 1::2]], 1)


@pytest.mark.parametrize("move", [halves, corners, nn.PixelUnshuffle(2), nn.ChannelShuffle(2)])
def test_what_is_only_moved_keeps_the_grid_that_it_has(move: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Pieces of a rounded map: with scales of their own no phone takes them."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 1), nn.LazyConv2d(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(move(self.first(x).relu())).mean([2, 3])  # type: ignore[no-any-return]

    network = Net()
    network(torch.zeros(1, 3, 8, 8))
    graph = prepare(tiny.wrap(network, 8), (3, 8, 8))
    *_, last = tiny.layers(graph)
    read, (relu,) = last.args[0], [one for one in graph.graph.nodes if str(one.target) == "aten.relu.default"]
    (origin,) = [one for one in relu.users if is_rounding(graph, one)]
    grids = {str(one.target) for one in graph.graph.nodes if is_rounding(graph, one)}
    pieces = read.args[0].args[0] if "aten.cat" in str(read.args[0].target) else [read]
    assert {str(one.target) for one in pieces} == {str(origin.target)} <= grids


@pytest.mark.parametrize("last", [nn.BatchNorm2d(4), nn.ReflectionPad2d(1), nn.ConvTranspose2d(4, 4, 2)])
def test_what_a_rectified_convolution_gives_is_rounded_whoever_reads_it(last: nn.Module) -> None:
    """Behind its ReLU; else no runtime could run the convolution itself in int8."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), last, nn.Flatten(), nn.LazyLinear(2))
    network(torch.zeros(1, 3, 8, 8))
    graph = prepare(tiny.wrap(network, 8), (3, 8, 8))
    (relu,) = [node for node in graph.graph.nodes if str(node.target) == "aten.relu.default"]
    assert [is_rounding(graph, one) for one in relu.users if not leaves(one)] == [True]
