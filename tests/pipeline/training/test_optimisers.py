"""Each key of the optimiser changes what it says: against a plain restatement of the steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training is torch's")

from torch import Tensor, nn

from pipeline.data.batches import Epoch, Pixels, training_batches
from pipeline.data.decoded import TRAIN, Decoded
from pipeline.recipe.schema import Training
from pipeline.schemes.base import Player
from pipeline.schemes.supervised import Supervised
from pipeline.training import loop
from pipeline.training.optimisers import depths, optimiser_of, settle
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal

STEPS = 3  # 27 training images in batches of 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"))


def level(name: str) -> int:
    """How many levels of CIFAR's residual network are done before the layer of a parameter begins."""
    part = name.split(".")[1]
    return {"conv1": 0, "bn1": 0, "layer1": 0, "layer2": 1, "layer3": 2, "fc": 3}[part]


class Plain:
    """SGD with momentum and AdamW as their papers have them, a parameter at a time."""

    def __init__(self, settings: Training) -> None:
        self.settings, self.count = settings, 0
        self.first: dict[str, Tensor] = {}
        self.second: dict[str, Tensor] = {}

    def step(self, named: dict[str, nn.Parameter], rate: float) -> None:
        settings = self.settings
        self.count += 1
        grads = {name: p.grad.double() for name, p in named.items() if p.grad is not None}
        length = math.sqrt(sum(float((grad**2).sum()) for grad in grads.values()))
        if settings.clip and length > settings.clip:
            grads = {name: grad * settings.clip / length for name, grad in grads.items()}
        for name, grad in grads.items():
            p, lr = named[name].data, settings.lr * rate * settings.layer_decay ** (3 - level(name))
            decay = settings.weight_decay if settings.decay_norms or p.ndim > 1 else 0.0
            moved = self.sgd if settings.optimizer == "sgd" else self.adamw
            p.copy_(moved(name, p.double(), grad, lr, decay))

    def sgd(self, name: str, p: Tensor, grad: Tensor, lr: float, decay: float) -> Tensor:
        self.first[name] = (
            self.settings.momentum * self.first.get(name, torch.zeros_like(p)) + grad + decay * p
        )
        return p - lr * self.first[name]

    def adamw(self, name: str, p: Tensor, grad: Tensor, lr: float, decay: float) -> Tensor:
        a, b, zero = self.settings.momentum, 0.999, torch.zeros_like(p)
        self.first[name] = a * self.first.get(name, zero) + (1 - a) * grad
        self.second[name] = b * self.second.get(name, zero) + (1 - b) * grad**2
        mean, square = self.first[name] / (1 - a**self.count), self.second[name] / (1 - b**self.count)
        return p - lr * decay * p - lr * mean / (square.sqrt() + 1e-8)


def restated(data: Decoded, settings: Training, rates: list[float]) -> dict[str, Tensor]:
    """An epoch by hand, with the learning rate's factor of each step."""
    model, plain = tiny.model(seed=1).train(), Plain(settings)
    torch.manual_seed(settings.seed * 100_003)
    shown = Epoch(settings.seed, 0, 0)
    batches = training_batches(Pixels(data), data.part(TRAIN), settings.batch, settings, shown)
    for batch, rate in zip(batches, rates, strict=True):
        model.zero_grad()
        nn.functional.cross_entropy(model(batch.images)[0], batch.labels).backward()
        plain.step(dict(model.named_parameters()), rate)
    return tiny.state(model)


def trained(data: Decoded, settings: Training, folder: Path) -> dict[str, Tensor]:
    loop.fit(Supervised(tiny.model(seed=1), tiny.labels(0.0)), data, settings, folder, "here")
    kept: dict[str, Tensor] = torch.load(folder / "here.pt", weights_only=True)["players"]["student"][
        "modules"
    ][0]
    return kept


COSINE = [0.5 * (1 + math.cos(math.pi * step / STEPS)) for step in range(STEPS)]
# Keys of a training, and the learning rate's factor at each of the three steps.
KEYS: dict[str, tuple[dict[str, Any], list[float]]] = {
    "nothing": ({}, COSINE),
    "momentum": ({"momentum": 0.5}, COSINE),
    "weight decay": ({"weight_decay": 0.3}, COSINE),
    "not of norms": ({"weight_decay": 0.3, "decay_norms": False}, COSINE),
    "layer decay": ({"layer_decay": 0.5}, COSINE),
    "clip": ({"clip": 0.2}, COSINE),
    "warm-up in steps": ({"warmup_steps": 2}, [0.01, 0.5, 1.0]),
    "adamw": ({"optimizer": "adamw", "lr": 0.01}, COSINE),
    "adamw's momentum": ({"optimizer": "adamw", "lr": 0.01, "momentum": 0.5}, COSINE),
    "adamw's decay": (
        {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.3, "decay_norms": False},
        COSINE,
    ),
    "finetune": (
        {"optimizer": "adamw", "lr": 0.01, "layer_decay": 0.75, "clip": 0.3, "warmup_steps": 1},
        [0.01, 1.0, 0.5],
    ),
}


@pytest.fixture(scope="module")
def untouched(data: Decoded, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return trained(data, tiny.training(epochs=1), tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("key", KEYS)
def test_an_epoch_is_the_plain_steps(
    key: str, data: Decoded, untouched: dict[str, Tensor], tmp_path: Path
) -> None:
    changes, rates = KEYS[key]
    settings = tiny.training(epochs=1, **changes)
    found, expected = trained(data, settings, tmp_path), restated(data, settings, rates)
    for name, tensor in expected.items():
        assert torch.allclose(found[name].float(), tensor.float(), rtol=1e-3, atol=2e-5), name
    if changes:
        apart = max(float((found[name] - tensor).abs().max()) for name, tensor in untouched.items())
        assert apart > 1e-3, "the key changes nothing"


def test_a_plain_training_has_one_group_in_the_network_s_order() -> None:
    model = tiny.model(seed=1)
    (group,) = optimiser_of(Player(model), Training(), tiny.SHAPE).param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]
    assert group["foreach"] and group["weight_decay"] == Training().weight_decay


class Tokens(nn.Module):
    """A transformer that holds parameters of its own, and makes its head first."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.place = nn.Linear(16, 4), nn.Parameter(torch.zeros(1, 16, 16))
        layers = [nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(2)]
        self.blocks, self.patches = nn.ModuleList(layers), nn.Conv2d(3, 16, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean(1))  # type: ignore[no-any-return]


def test_layers_are_as_deep_as_they_run() -> None:
    model = tiny.wrap(Tokens(), 16)
    assert model.taps == ("blocks.0", "blocks.1")
    found = depths(model, (3, 16, 16))
    assert found.keys() == dict(model.named_parameters()).keys()
    expected = {"fc": 2, "place": 0, "patches": 0, "blocks.0": 0, "blocks.1": 1}
    for name, depth in found.items():
        (start,) = [start for start in expected if name.startswith(f"network.{start}")]
        assert depth == expected[start], name


def test_a_warm_up_that_fills_the_training_is_refused() -> None:
    settings = Training(epochs=2, batch=8, warmup_steps=5)
    assert settle(settings, 27, 1, "distill").warmup == pytest.approx(5 / 6)
    assert settle(Training(warmup=0.2), 27, 1, "distill").warmup == 0.2
    with pytest.raises(Refusal, match=r"distill\.warmup_steps: 6 of a training of 6; give fewer"):
        settle(settings.model_copy(update={"warmup_steps": 6}), 27, 1, "distill")
