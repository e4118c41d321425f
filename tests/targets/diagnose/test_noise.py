"""How noisy a machine is: figures of made-up processes, and one real look."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from targets.diagnose.noise import Noise, found
from targets.stats.intervals import LOOK_LEVEL, LOOKS

QUIET = Noise(0.002, 0.1, 1.5, 0.0, "performance")


def test_figures_are_those_of_the_blocks() -> None:
    logs = [0.01, -0.01, 0.02, 0.0]
    timed = [
        {"first": [[level * math.exp(log)] * 3] * 3, "second": [[level] * 3] * 3}
        for log, level in zip(logs, (1.0, 1.2, 1.1, 1.5), strict=True)
    ]
    noise = found(timed, 1.0, {"load": 0.1})
    assert noise.spread == pytest.approx(np.std(logs, ddof=1))
    assert noise.drift == pytest.approx(1.5 / math.exp(0.01) - 1)
    assert (noise.load, noise.governor) == (0.1, None)


def test_what_can_be_proved_is_half_the_interval_of_the_last_look_in_time() -> None:
    assert QUIET.provable == pytest.approx(
        math.expm1(stats.t.ppf((1 + LOOK_LEVEL) / 2, LOOKS[-1] - 1) * 0.002 / math.sqrt(LOOKS[-1]))
    )
    slow = Noise(0.002, 0.1, 60 / 11, 0.0, None)
    assert slow.provable == pytest.approx(
        math.expm1(stats.t.ppf((1 + LOOK_LEVEL) / 2, 9) * 0.002 / math.sqrt(10))
    )
    assert Noise(0.002, 0.1, 1000.0, 0.0, None).provable > slow.provable > QUIET.provable


def test_advice_is_for_what_is_wrong() -> None:
    assert QUIET.advice() == ["nothing to change"]
    words = " ".join(Noise(0.2, 0.1, 1.5, 1.7, "powersave").advice())
    assert "load average 1.7" in words and "governor is powersave" in words and "taskset" in words
