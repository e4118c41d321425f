"""A network in parts: cut at its taps, plain or captured, and what cannot be cut."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the networks are torch's")

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.catalogue import build
from pipeline.models.split_model import Parts
from pipeline.models.tapped_model import outputs
from pipeline.quantization.grid import switch
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal

TORCHVISION = ("resnet18", "mobilenet_v2", "squeezenet1_1", "densenet121", "efficientnet_b0")


@pytest.mark.parametrize("name", [*TORCHVISION, "shufflenet_v2_x1_0"])
def test_stages_chained_over_the_image_are_the_model_s_own(name: str) -> None:
    torch.manual_seed(0)
    model = tiny.wrap(build(name, None, 3, {}, "here").network, side=64)
    with torch.no_grad():
        found = outputs(model(tiny.pictures(2, 64)))
        parts, x = Parts(model, model, "teacher"), tiny.pictures(2, 64)
        sides = [stage.shape[-1] for stage in found.stages]
        assert len(sides) >= 4
        assert sides == sorted(set(sides), reverse=True)
        assert sides[0] <= 32
        for index, tap in enumerate(found.stages):
            fed = x.clone()
            answer = parts.stage(index, x)
            assert torch.equal(x, fed), f"stage {index} wrote over what it was fed"
            assert torch.equal(answer, tap), f"stage {index}"
            assert float(tap.std()) > 0
            x = answer
    assert found.logits.shape == (2, 3)


class Skipping(nn.Module):
    """A stem whose output is read again behind the second stage, or that is read by none but the first."""

    taps = ("first", "second")

    def __init__(self, skip: bool, hasty: bool = False) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.second, self.fc = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
        self.skip, self.hasty = skip, hasty

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        first = F.relu(self.first(stem), inplace=False) if not self.hasty else F.relu_(self.first(stem))
        second = self.second(first + stem if self.skip else first)
        return self.fc(second.mean((2, 3)))  # type: ignore[no-any-return]


def feed(network: nn.Module, index: int) -> None:
    """A stage of the network fed with what its own entry looks like."""
    model = tiny.wrap(network, 16)
    with torch.no_grad():
        entries = [tiny.pictures(2), *outputs(model(tiny.pictures(2))).stages]
        Parts(model, model, "teacher").stage(index, entries[index])


def test_a_stage_that_reads_past_its_entry_is_refused() -> None:
    feed(Skipping(skip=False), 1)
    feed(Skipping(skip=True), 0)
    with pytest.raises(Refusal, match=r"teacher: .* at first, second: the part after .* choose other taps"):
        feed(Skipping(skip=True), 1)


def test_a_captured_graph_has_the_parts_of_its_model() -> None:
    model, graph = tiny.model(seed=1), tiny.graph()
    switch(graph, False)
    parts, plain = Parts(graph, model, "student"), Parts(model, model, "student")
    with torch.no_grad():
        found = plain(tiny.pictures(3))
        entries = [tiny.pictures(3), *found.stages]
        for index, entry in enumerate(entries[:-1]):
            expected = plain.stage(index, entry)
            assert torch.allclose(expected, found.stages[index], atol=1e-6)
            assert torch.allclose(parts.stage(index, entry), expected, atol=1e-4), index
        assert torch.allclose(parts.head(found.pooled), plain.head(found.pooled), atol=1e-5)
        assert torch.allclose(plain.head(found.pooled), found.logits, atol=1e-6)
    graph.train()
    parts.stage(1, entries[1]).sum().backward()
    moved = {name for name, p in graph.named_parameters() if p.grad is not None}
    assert moved and all("layer2" in name for name in moved), "the graph's own weights"


def test_a_stage_does_not_write_over_what_it_is_fed() -> None:
    model = tiny.wrap(Skipping(skip=False, hasty=True), 16)
    with torch.no_grad():
        taps = outputs(model(tiny.pictures(2))).stages
        assert float(taps[0].min()) < 0, "the tap is what the module gave, before the next one wrote over it"
        fed = taps[0].clone()
        assert torch.equal(Parts(model, model, "teacher").stage(1, fed), taps[1])
    assert torch.equal(fed, taps[0])


class Wavering(nn.Module):
    """A network whose way depends on what it sees."""

    taps = ("a",)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.a(x if x.sum() > 0 else -x)
        return self.fc(seen.mean((2, 3)))  # type: ignore[no-any-return]


def test_a_network_without_a_fixed_graph_is_refused() -> None:
    with pytest.raises(Refusal, match="teacher: cannot be cut into stages at a: "):
        feed(Wavering(), 0)
