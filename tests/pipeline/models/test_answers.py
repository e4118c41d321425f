"""What of a network's answers are the logits: found, chosen by the recipe's key, or refused with the choices."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the networks are torch's")

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batches import plain_batches
from pipeline.data.decoded import TRAIN
from pipeline.models.answers import Choice, Key, check_answers, choose
from pipeline.models.catalogue import build
from pipeline.models.feature_levels import find_levels, heads_of
from pipeline.models.tapped_model import Model, outputs
from pipeline.schemes.supervised import Supervised
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal

Named = namedtuple("Named", ["features", "logits"])


@dataclass
class Answer:
    logits: Tensor
    hidden: Tensor
    loss: Tensor | None = None


class Answering(nn.Module):
    """Features, logits and an auxiliary head's, put together as ``form`` says."""

    def __init__(self, form: Callable[..., Any]) -> None:
        super().__init__()
        self.conv, self.fc, self.aux = nn.Conv2d(3, 6, 3), nn.Linear(6, 4), nn.Linear(6, 4)
        self.form = form

    def forward(self, x: Tensor) -> Any:
        pooled = self.conv(x).mean((2, 3))
        return self.form(self.fc(pooled), pooled, self.aux(pooled), self.training)


# How a network answers, the recipe's key, and what is chosen of it.
TAKEN: dict[str, tuple[Callable[..., Any], Key | None, Choice]] = {
    "a tensor": (lambda y, p, a, t: y, None, Choice()),
    "a pair": (lambda y, p, a, t: (y, p), None, Choice(0, 0)),
    "a list": (lambda y, p, a, t: [p, y], None, Choice(1, 1)),
    "a dict": (lambda y, p, a, t: {"features": p, "out": y}, None, Choice("out", "out")),
    "an ordered dict": (lambda y, p, a, t: OrderedDict(p=p, y=y), None, Choice("y", "y")),
    "a named tuple": (lambda y, p, a, t: Named(p, y), None, Choice("logits", "logits")),
    "a dataclass": (lambda y, p, a, t: Answer(y, p), None, Choice("logits", "logits")),
    "by name": (lambda y, p, a, t: {"x": a, "y": y}, "y", Choice("y", "y")),
    "by position": (lambda y, p, a, t: (a, y), 1, Choice(1, 1)),
    "by the position of a field": (lambda y, p, a, t: Named(a, y), 1, Choice(1, 1)),
    "auxiliary": (lambda y, p, a, t: (y, a) if t else y, None, Choice(None, 0, (1,))),
    "auxiliary first": (lambda y, p, a, t: (a, y) if t else y, None, Choice(None, 1, (0,))),
    "auxiliary by name": (
        lambda y, p, a, t: {"aux": a, "y": y} if t else {"y": y},
        None,
        Choice("y", "y", ("aux",)),
    ),
    "features in evaluation": (lambda y, p, a, t: y if t else (p, y), None, Choice(1, None)),
}


@pytest.mark.parametrize("form", TAKEN)
def test_the_logits_are_taken(form: str) -> None:
    made, output, expected = TAKEN[form]
    torch.manual_seed(0)
    network = Answering(made)
    choice = check_answers(network, (3, 16, 16), (4,), "here", output)
    assert choice == expected
    assert not network._forward_hooks, "what is tried is a copy"
    choose(network, choice)
    images = tiny.pictures(5)
    pooled = network.conv(images).mean((2, 3))
    assert torch.equal(network.eval()(images), network.fc(pooled))
    answer = network.train()(images)
    logits, *further = answer if isinstance(answer, tuple) else (answer,)
    assert torch.equal(logits, network.fc(pooled))
    assert len(further) == len(choice.auxiliary)
    assert all(torch.equal(one, network.aux(pooled)) for one in further)
    assert sorted(network.state_dict()) == sorted(Answering(made).state_dict()), "no name has changed"


REFUSED: dict[str, tuple[Callable[..., Any], Key | None, str]] = {
    "two": (
        lambda y, p, a, t: {"y": y, "a": a},
        None,
        r'several answers of 4 columns: y \(2, 4\), a \(2, 4\); say which are the logits: output = "y"',
    ),
    "none": (lambda y, p, a, t: (p, p), None, r"answers 0 \(2, 6\), 1 \(2, 6\); 4 classes want \(2, 4\)"),
    "no tensor": (lambda y, p, a, t: None, None, "answers NoneType"),
    "another width": (lambda y, p, a, t: p, None, r"answers \(2, 6\); 4 classes want \(2, 4\)"),
    "no such key": (lambda y, p, a, t: {"y": y, "p": p}, "z", r'answers y \(2, 4\), p \(2, 6\): none is "z"'),
    "no such place": (lambda y, p, a, t: (y, p), 7, "none is 7"),
    "no logits there": (lambda y, p, a, t: (y, p), 1, r"answers \(2, 6\) as 1; .*: output = 0"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_answers_without_clear_logits_are_refused(form: str) -> None:
    made, output, words = REFUSED[form]
    with pytest.raises(Refusal, match=words) as caught:
        check_answers(Answering(made), (3, 16, 16), (4,), "here", output)
    assert str(caught.value).startswith("here: ") and "\n" not in str(caught.value)


class Picky(nn.Module):  # takes one size of image, as torchvision's transformers do
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        torch._assert(x.shape[-1] == 224, "Wrong image height!")
        return self.conv(x).mean((2, 3))


class Registering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "scale"):
            self.register_buffer("scale", torch.ones(4))
        return self.conv(x).mean((2, 3)) * self.scale


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (tiny.network(classes=5), r"answers \(2, 5\).* 4 classes"),
        (nn.Sequential(nn.Conv2d(3, 4, 17)), "in training the network fails on images of 3x16x16: "),
        (Picky(), "fails on images of 3x16x16: Wrong image height!"),
        (Registering(), "forward makes the tensor 'scale', .*; register it in __init__"),
    ],
)
def test_networks_that_would_stop_the_first_batch_are_refused(network: nn.Module, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        check_answers(network, (3, 16, 16), (4,), "here")


def wrapped(network: nn.Module, side: int) -> Model:
    choose(network, check_answers(network, tiny.square(side), (3,), "here"))
    return Model(network, tiny.MEAN, tiny.STD, *find_levels(network, tiny.square(side)))


@pytest.mark.parametrize(
    ("name", "side", "arguments", "heads", "weight"),
    [
        ("googlenet", 32, {"init_weights": False}, {"fc", "aux1.fc2", "aux2.fc2"}, 0.3),
        ("inception_v3", 299, {"init_weights": False}, {"fc", "AuxLogits.fc"}, 0.4),
        ("timm/inception_v3", 299, {"aux_logits": True}, {"fc", "AuxLogits.fc"}, 0.4),
    ],
)
def test_auxiliary_heads_train_with_their_weight_and_are_silent_in_evaluation(
    name: str, side: int, arguments: dict[str, Any], heads: set[str], weight: float, tmp_path: Path
) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm", reason="an optional catalogue")
    torch.manual_seed(0)
    model = wrapped(build(name, None, 3, arguments, "here").network, side)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert heads_of(model.network, tiny.square(side), 3) == heads
    data = tiny.write_set(tmp_path)
    small = next(plain_batches(data, data.part(TRAIN), 3))
    batch = replace(small, images=F.interpolate(small.images, side))
    found = tiny.losses(Supervised(model.train(), tiny.labels(0.0)), batch, 0.0)["student"]
    seen = outputs(model(batch.images))
    assert len(seen.auxiliary) == len(heads) - 1
    entropy = [F.cross_entropy(logits, batch.labels) for logits in (seen.logits, *seen.auxiliary)]
    assert found.item() == pytest.approx((entropy[0] + weight * sum(entropy[1:])).item(), rel=1e-4)
    found.backward()
    assert all(float(model.network.get_submodule(head).weight.grad.abs().sum()) > 0 for head in heads)
    with torch.no_grad():
        assert outputs(model.eval()(batch.images)).auxiliary == ()
