"""The contrast with a memory against a slow, plain restatement of its equation, over several steps."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
from collections.abc import Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the losses are torch's")

from torch import nn

from pipeline.losses.step import Step
from pipeline.models.tapped_model import Model, outputs
from support import tiny
from support.slow_relations import Vector, mean, unit
from support.tiny import bound, one_thread  # noqa: F401  (one thread for every test here)

# Each batch by its images' places in the set; some come back.
COURSE = [[0, 1, 2, 3, 9], [4, 5, 6, 40, 63], [7, 2, 0, 11, 63], [12, 13, 14, 15, 16], [9, 5, 12, 17, 0]]


def label(index: int) -> int:
    return (index * 7 + 3) // 5 % tiny.CLASSES


class SlowCRD:
    """Tian et al. 2020: a memory of both networks' embeddings, asked which of its rows is the image's own."""

    def __init__(self, loss: Any) -> None:
        self.loss, self.labels, self.level = loss, dict[int, int](), [0.0, 0.0]
        self.banks = [loss.student.bank.tolist(), loss.teacher.bank.tolist()]

    def __call__(self, step: Step) -> float:
        own = step.indices.tolist()
        self.labels.update(zip(own, step.labels.tolist(), strict=True))
        drawn = sorted(self.labels)
        if len(drawn) > self.loss.negatives:
            generator = torch.Generator().set_state(step.generator.get_state())
            order = torch.randperm(len(drawn), generator=generator).tolist()
            drawn = [drawn[i] for i in order[: self.loss.negatives]]
        students = [embed(self.loss.student.embed, x) for x in step.student.pooled.tolist()]
        teachers = [embed(self.loss.teacher.embed, x) for x in step.teacher.pooled.tolist()]
        total = self.contrast(0, students, self.banks[1], own, drawn)
        total += self.contrast(1, teachers, self.banks[0], own, drawn)
        old = self.loss.momentum
        for bank, news in zip(self.banks, (students, teachers), strict=True):
            for i, v in zip(own, news, strict=True):
                bank[i] = unit([old * m + (1 - old) * x for m, x in zip(bank[i], v, strict=True)])
        return total

    def contrast(
        self, who: int, anchors: list[list[float]], bank: list[list[float]], own: list[int], drawn: list[int]
    ) -> float:
        found = []
        for v, i in zip(anchors, own, strict=True):
            others = [j for j in drawn if self.labels[j] != self.labels[i]]
            near = [
                sum(a * b for a, b in zip(v, bank[j], strict=True)) / self.loss.temperature
                for j in [i, *others]
            ]
            found.append((near[0], near[1:]))
        if not self.level[who]:
            self.level[who] = mean([math.exp(x) for own_, others in found for x in [own_, *others]])
        total = 0.0
        for positive, negatives in found:
            shift = math.log(max(1, len(negatives)) * self.level[who])
            total += math.log(1 + math.exp(shift - positive))
            total += sum(math.log(1 + math.exp(x - shift)) for x in negatives)
        return total / len(own)


def embed(layer: nn.Linear, x: Vector) -> list[float]:
    rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return unit([sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in rows])


@pytest.fixture(scope="module")
def networks() -> tuple[Model, Model]:
    return tiny.model(tiny.NARROW, seed=1).double(), tiny.model(tiny.WIDE, seed=2).double()


def course(networks: tuple[Model, Model], batches: Sequence[Sequence[int]] = COURSE) -> list[Step]:
    """A step for each batch, of images of their own."""
    made = []
    shown = tiny.pictures(64, seed=5).double()
    for number, indices in enumerate(batches):
        here, images = tiny.step(*networks, count=1, dtype=torch.float64), shown[list(indices)]
        with torch.no_grad():
            student = outputs(networks[0](images))
        changes = {"images": images, "student": student, "indices": torch.tensor(indices)}
        here = dataclasses.replace(here, labels=torch.tensor([label(i) for i in indices]), **changes)
        here.generator.manual_seed(number)
        made.append(here)
    return made


def crd(networks: tuple[Model, Model], **arguments: float) -> Any:
    return bound("crd", *networks, **{"size": 6, **arguments}).double()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"size": 128},
        {"temperature": 0.5, "momentum": 0.9},
        {"negatives": 9},
        {"negatives": 2, "momentum": 0.0},
    ],
)
def test_every_step_is_the_equation(networks: tuple[Model, Model], arguments: dict[str, float]) -> None:
    loss = crd(networks, **arguments)
    slow = SlowCRD(loss)
    for here in course(networks):
        expected = slow(here)
        assert loss(here).item() == pytest.approx(expected, rel=1e-9)
        for bank, rows in zip((loss.student.bank, loss.teacher.bank), slow.banks, strict=True):
            assert bank.tolist() == [pytest.approx(row, rel=1e-9, abs=1e-12) for row in rows]


def test_a_batch_of_one_class_has_no_negatives(networks: tuple[Model, Model]) -> None:
    loss = crd(networks)
    slow = SlowCRD(loss)
    assert {label(i) for i in (0, 3, 40)} == {0}
    for here in course(networks, [[0, 3, 40], [40, 3, 0], [1, 0]]):
        assert loss(here).item() == pytest.approx(slow(here), rel=1e-9)


@pytest.mark.parametrize(
    ("rows", "matters"),
    [([40, 63], False), ([20, 50], False), ([1], True), ([9], True), ([0], True)],
    ids=["its class", "never seen", "another class", "yet another", "itself"],
)
def test_who_is_compared(networks: tuple[Model, Model], rows: list[int], matters: bool) -> None:
    loss = crd(networks)
    *before, here = course(networks, [*COURSE[:2], [0, 3]])
    for step in before:
        loss(step)
    other = copy.deepcopy(loss)
    for memory in (other.student, other.teacher):
        memory.bank[rows] = memory.bank[rows].flip(1)
    assert (loss(here).item() == other(here).item()) is not matters


@pytest.mark.parametrize("number", [0, 1])
def test_level_and_memory_are_held_fixed(networks: tuple[Model, Model], number: int) -> None:
    loss = crd(networks, temperature=0.5)
    slow = SlowCRD(loss)
    steps = course(networks)[: number + 1]
    for step in steps[:-1]:
        slow(step), loss(step)
    fixed = copy.deepcopy(slow)
    slow(steps[-1])
    fixed.level = slow.level
    here = tiny.freed(steps[-1])
    slope = tiny.gradients(loss(here), here)[1]
    torch.manual_seed(0)
    way = torch.randn_like(slope)

    def beside(amount: float) -> float:
        pooled = here.student.pooled.detach() + amount * way
        return copy.deepcopy(fixed)(dataclasses.replace(here, student=here.student._replace(pooled=pooled)))

    rise = (beside(1e-5) - beside(-1e-5)) / 2e-5
    assert float((slope * way).sum()) == pytest.approx(rise, rel=1e-6)


@pytest.mark.parametrize("saved", [0, 1, 3])
def test_a_loss_loaded_goes_on_as_the_one_saved(networks: tuple[Model, Model], saved: int) -> None:
    loss, fresh = crd(networks, negatives=7), crd(networks, negatives=7)
    with torch.no_grad():
        for x in (*fresh.parameters(), fresh.student.bank, fresh.teacher.bank):
            x.copy_(torch.rand_like(x))
    steps = course(networks)
    for here in steps[:saved]:
        loss(here)
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file))
    expected = [loss(here).item() for here in steps[saved:]]
    for here, number in zip(course(networks)[saved:], expected, strict=True):
        assert fresh(here).item() == number


def test_the_length_of_an_embedding_does_not_count(networks: tuple[Model, Model]) -> None:
    loss = crd(networks)
    longer = copy.deepcopy(loss)
    with torch.no_grad():
        for x in longer.parameters():
            x.mul_(3)
    for here in course(networks):
        value = loss(here).item()
        assert longer(here).item() == pytest.approx(value, rel=1e-9)
