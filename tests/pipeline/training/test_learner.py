"""One player in training: its learning rate's course and its running average."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training is torch's")

from torch import nn

from pipeline.recipe.schema import Training
from pipeline.schemes.base import Player
from pipeline.training.learner import Learner, blend, rate
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)


def test_warm_up_and_schedules() -> None:
    cosine = Training(warmup=0.2)
    assert rate(cosine, 0.0) == 0.01
    assert rate(cosine, 0.1) == pytest.approx(0.5)
    assert rate(cosine, 0.2) == pytest.approx(1.0)
    assert rate(cosine, 0.6) == pytest.approx(0.5)
    assert rate(cosine, 0.2 + 0.8 / 3) == pytest.approx(0.75)
    assert 0 <= rate(cosine, 0.999) < 1e-4
    falling = [rate(cosine, 0.2 + 0.01 * i) for i in range(80)]
    assert falling == sorted(falling, reverse=True)
    assert rate(Training(warmup=0.0), 0.0) == 1.0
    steps = Training(schedule="step", warmup=0.1, milestones=(0.5, 0.75))
    found = [rate(steps, at) for at in (0.05, 0.1, 0.499, 0.5, 0.749, 0.75, 1.0)]
    assert found == pytest.approx([0.5, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_average_is_blended_and_its_counters_copied() -> None:
    average, network = tiny.model(seed=1), tiny.model(seed=2)
    network(tiny.pictures(2))
    network.network.bn1.num_batches_tracked.fill_(7)
    before, given = tiny.state(average), tiny.state(network)
    blend(average, network, 0.9)
    for name, tensor in average.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, given[name])
        else:
            assert torch.allclose(tensor, 0.9 * before[name] + 0.1 * given[name], atol=1e-6)
    assert int(average.network.bn1.num_batches_tracked) == 7


def test_a_step_moves_the_network_what_its_losses_learn_and_the_average() -> None:
    """By plain steps against a gradient of ones; the average goes half of the way."""
    network, adapters = tiny.model(), nn.ModuleList([nn.Linear(2, 3)])
    settings = tiny.training(lr=0.25, momentum=0.0, weight_decay=0.0, ema=0.5, schedule="step", milestones=())
    learner = Learner(Player(network, adapters), settings, tiny.SHAPE)
    learnt = [*network.parameters(), *adapters.parameters()]
    before = [parameter.detach().clone() for parameter in learnt]
    for parameter in learnt:
        parameter.grad = torch.ones_like(parameter)
    learner.step(0.5)
    assert learner.average is not None
    for parameter, old in zip(learnt, before, strict=True):
        torch.testing.assert_close(parameter.detach(), old - 0.25)
    for mean, old in zip(learner.average.parameters(), before, strict=False):
        torch.testing.assert_close(mean.detach(), old - 0.125)
