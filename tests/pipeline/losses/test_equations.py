"""Each loss against a slow, plain restatement of its paper's equation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pytest

torch = pytest.importorskip("torch", reason="the losses are torch's")

from torch import Tensor, nn

from pipeline.losses.hints import FitNet
from pipeline.losses.resets import SRKD
from pipeline.losses.step import Step
from pipeline.models.tapped_model import Model
from support import tiny
from support.tiny import bound, one_thread  # noqa: F401  (one thread for every test here)

CLOSE = {torch.float64: 1e-9}


@pytest.fixture(scope="module")
def student() -> Model:
    return tiny.model(tiny.NARROW, seed=1)


@pytest.fixture(scope="module")
def teacher() -> Model:
    return tiny.model(tiny.WIDE, seed=2)


def slow_kd(step: Step, temperature: float) -> float:
    """Hinton et al. 2015: T² · Σ p_t ln(p_t / p_s) of the softened answers, mean over the images."""
    total = 0.0
    student, teacher = step.student.logits.tolist(), step.teacher.logits.tolist()
    for ours, theirs in zip(student, teacher, strict=True):
        p_s, p_t = soften(ours, temperature), soften(theirs, temperature)
        total += sum(t * (math.log(t) - math.log(s)) for s, t in zip(p_s, p_t, strict=True))
    return temperature**2 * total / len(student)


def soften(logits: Sequence[float], temperature: float) -> list[float]:
    powers = [math.exp(z / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


def slow_at(step: Step) -> float:
    """Zagoruyko & Komodakis 2017: the maps of mean squares at unit length, compared place by place."""
    total = 0.0
    for ours, theirs in zip(step.student.stages, step.teacher.stages, strict=True):
        squares = []
        for a, b in zip(slow_attention(ours), slow_attention(theirs), strict=True):
            squares += [(x - y) ** 2 for x, y in zip(a, b, strict=True)]
        total += sum(squares) / len(squares)
    return total


def slow_attention(maps: Tensor) -> list[list[float]]:
    found = []
    for image in maps.flatten(2).tolist():
        energy = [
            sum(channel[place] ** 2 for channel in image) / len(image) for place in range(len(image[0]))
        ]
        found.append([e / math.sqrt(sum(x * x for x in energy)) for e in energy])
    return found


def slow_project(maps: Tensor, weight: Tensor) -> Tensor:
    """A 1×1 convolution without bias: each output channel the sum of weighted input channels."""
    rows = weight[:, :, 0, 0].tolist()
    out = [sum(w * maps[:, c] for c, w in enumerate(row)) for row in rows]
    return torch.stack(out, dim=1)  # type: ignore[arg-type]


def mean_square(left: Tensor, right: Tensor) -> float:
    differences = (left - right).flatten().tolist()
    return sum(d * d for d in differences) / len(differences)


def slow_fitnet(loss: FitNet, step: Step) -> float:
    """Romero et al. 2015: the middle stage's hint through 1×1 convolution, the batch's norm, ReLU."""
    adapter, norm = loss.adapt[0], loss.adapt[1]
    hint = slow_project(step.student.stages[1], adapter.project.weight)
    for c in range(hint.shape[1]):
        values = hint[:, c].flatten().tolist()
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + norm.eps)
        hint[:, c] = ((hint[:, c] - mean) / spread * norm.weight[c] + norm.bias[c]).clamp(min=0)
    return mean_square(hint, step.teacher.stages[1])


def slow_srkd(loss: SRKD, step: Step, teacher: Model) -> float:
    """The stage-reset paper: the teacher's stage i fed the student's i − 1, the first one the image."""
    net, stages = teacher.network, step.student.stages
    adapted = [slow_project(f, a.project.weight) for f, a in zip(stages, loss.adapt, strict=True)]
    x = (step.images - teacher.mean) / teacher.std
    first = net.layer1(torch.relu(net.bn1(net.conv1(x))))
    # Stage 0 has the shape that the teacher's next stage expects and goes in raw; stage 1 goes in adapted.
    targets = [first, net.layer2(stages[0]), net.layer3(adapted[1])]
    return sum(mean_square(a, t) for a, t in zip(adapted, targets, strict=True))


@pytest.mark.parametrize("name", ["kd", "at", "fitnet", "srkd"])
def test_loss_is_the_paper_s_equation(name: str) -> None:
    student, teacher = tiny.model(tiny.NARROW, seed=1).double(), tiny.model(tiny.WIDE, seed=2).double()
    loss = bound(name, student, teacher)
    if isinstance(loss, nn.Module):
        loss.double()
    with torch.no_grad():
        here = tiny.step(student, teacher, count=3, dtype=torch.float64)
        slow = {
            "kd": lambda: slow_kd(here, 4.0),
            "at": lambda: slow_at(here),
            "fitnet": lambda: slow_fitnet(loss, here),  # type: ignore[arg-type]
            "srkd": lambda: slow_srkd(loss, here, teacher),  # type: ignore[arg-type]
        }
        value = loss(here)
        assert value.item() == pytest.approx(slow[name](), rel=CLOSE[value.dtype])


def test_kd_and_at_vanish_at_the_teacher(teacher: Model) -> None:
    for name in ("kd", "at"):
        here = tiny.freed(tiny.step(teacher, teacher))
        value = bound(name, teacher, teacher)(here)
        assert abs(value.item()) < 1e-6
        assert max(float(grad.abs().max()) for grad in tiny.gradients(value, here)) < 1e-6


def test_srkd_vanishes_for_the_teacher_s_twin_with_adapters_that_do_nothing(teacher: Model) -> None:
    loss = bound("srkd", teacher, teacher)
    here = tiny.step(teacher, teacher)
    assert loss(here).item() > 1e-3
    for adapter in loss.adapt:  # type: ignore[attr-defined]
        nn.init.dirac_(adapter.project.weight)
    assert loss(here).item() < 1e-10


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, 8.0, 20.0])
def test_kd_s_gradient_keeps_its_size_as_the_temperature_changes(
    temperature: float, student: Model, teacher: Model
) -> None:
    torch.manual_seed(0)
    ours, theirs = (x - x.mean(1, keepdim=True) for x in 0.02 * torch.randn(2, 6, tiny.CLASSES))
    here = tiny.step(student, teacher)
    here = tiny.freed(tiny.taught(here, logits=theirs), lambda _: ours)
    slope = tiny.gradients(bound("kd", student, teacher, temperature=temperature)(here), here)[0]
    # Hinton et al. 2015, eq. 4, times T²: near zero the gradient is that of half the squared distance.
    expected = (ours - theirs) / (tiny.CLASSES * len(ours))
    assert float((slope - expected).norm() / expected.norm()) < 0.03


def test_the_tutorial_s_worked_example_done_right(student: Model, teacher: Model) -> None:
    p_t, p_s = torch.tensor([0.3, 0.2, 0.2, 0.2, 0.1]), torch.tensor([0.28, 0.22, 0.2, 0.18, 0.12])
    here = tiny.step(student, teacher, count=1)
    here = tiny.taught(here, logits=p_t.log()[None])
    here = dataclasses.replace(here, student=here.student._replace(logits=p_s.log()[None]))
    divergence = bound("kd", student, teacher, temperature=1.0)(here).item()
    entropy = -sum(p * math.log(p) for p in p_t.tolist())
    assert divergence == pytest.approx(0.00448, abs=1e-5)
    assert entropy + divergence == pytest.approx(1.5616, abs=5e-5)
    hard = nn.functional.cross_entropy(here.student.logits, torch.tensor([0])).item()
    assert hard == pytest.approx(1.2730, abs=5e-5)
    assert 0.2 * divergence + 0.8 * hard == pytest.approx(1.0193, abs=5e-5)
