"""What would fail after hours of training is refused before the first batch, on untrained copies."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the networks are torch's")

from torch import Tensor, nn

from pipeline.data.decoded import Decoded
from pipeline.recipe.recipe import Recipe
from pipeline.stages.check import try_cut, try_int8
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"), classes=tiny.CLASSES)


def recipe(**prune: object) -> Recipe:
    given = {"version": 1, "data": "digits", "teacher": "resnet20", "student": "resnet8"}
    return Recipe.model_validate({**given, "prune": {"macs": 0.5, **prune}} if prune else given)


class Odd(nn.Module):
    """A network with a step of its own behind a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, tiny.CLASSES)

    def step(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.step(self.conv(x).relu()).mean((2, 3)))  # type: ignore[no-any-return]


class Depending(Odd):
    """Python that looks at a value."""

    def step(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Unwritable(Odd):
    """An operator that no ONNX opset has."""

    def step(self, x: Tensor) -> Tensor:
        return torch.special.i0e(x)


class Shuffled(Odd):
    """A view that fixes the number of channels, which a cut would change."""

    def step(self, x: Tensor) -> Tensor:
        return x.view(-1, 2, 4, *x.shape[2:]).transpose(1, 2).reshape(-1, 8, *x.shape[2:])


def test_a_network_of_ours_passes(data: Decoded, tmp_path: Path) -> None:
    model = tiny.model(seed=1)
    before = tiny.state(model)
    try_int8(model, data, tmp_path)
    for criterion in ("magnitude", "taylor"):
        try_cut(recipe(criterion=criterion), model, data)
    try_cut(recipe(), model, data)
    assert tiny.same(before, tiny.state(model)) == []


def test_what_cannot_be_captured_or_exported_is_refused(data: Decoded, tmp_path: Path) -> None:
    with pytest.raises(
        Refusal,
        match=r"captured of it past .*test_check\.py:\d+, return x \* 2 if x\.sum\(\) > 0 else x .*torch\.where",
    ) as caught:
        try_int8(tiny.wrap(Depending(), tiny.SIDE), data, tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(Refusal, match=r"student: it cannot be exported to ONNX") as caught:
        try_int8(tiny.wrap(Unwritable(), tiny.SIDE), data, tmp_path)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_cut_is_refused(data: Decoded) -> None:
    with pytest.raises(Refusal, match=r"prune: none of 1 groups of layers can lose channels"):
        try_cut(recipe(macs=0.5), tiny.wrap(Shuffled(), tiny.SIDE), data)
    with pytest.raises(
        Refusal, match=r"prune\.criterion: no criterion named 'magnitud'; did you mean 'magnitude'"
    ):
        try_cut(recipe(criterion="magnitud"), tiny.model(), data)
