"""Which tensors of a network are on the grid."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the grid is torch's")

from torch import fx, nn

from pipeline.models.catalogue import build
from pipeline.quantization.grid import is_rounding
from pipeline.quantization.policy import left_float
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
    assert left_float(graph) == {}
    sums = [n for n in graph.graph.nodes if str(n.target).startswith("aten.add.")]
    assert len([n for n in sums if all(is_rounding(graph, arg) for arg in n.args)]) == 3


def test_torchvision_s_mobile_networks_are_on_the_grid_but_for_hardswish() -> None:
    for name, floats in (("mobilenet_v2", 0), ("mobilenet_v3_small", nn.Hardswish)):
        torch.manual_seed(0)
        model = tiny.wrap(build(name, None, 3, {}, "here").network, side=32)
        graph = prepare(model, 32)
        check_rounded(graph, model.network)
        left = list(left_float(graph).values())
        if floats == 0:
            assert left == []
        else:
            expected = [m for m in model.modules() if isinstance(m, nn.Hardswish)]
            assert len([why for why in left if why.startswith("hardswish")]) == len(expected) > 0


def test_a_pool_that_chooses_keeps_the_grid_of_its_input() -> None:
    """squeezenet's pools read concatenations: input and output share one rounding."""
    torch.manual_seed(0)
    graph = prepare(tiny.wrap(build("squeezenet1_1", None, 3, {}, "here").network, side=32), 32)
    pools = [node for node in graph.graph.nodes if "max_pool2d" in str(node.target)]
    assert len(pools) == 3
    for pool in pools:
        (behind,) = pool.users
        assert behind.target == pool.args[0].target
