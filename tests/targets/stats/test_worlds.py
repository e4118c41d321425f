"""The gate's error rates: its own clock, looks and decision in ten thousand simulated worlds.

In a world time passes only in calls. What a call takes drifts for all alike, comes in bursts, in two modes or with a
heavy tail, and depends on where a session happens to lie; by how much the candidate is slower the gate does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from scipy import signal, stats

from targets.budgets.line import Outcome, outcome
from targets.runner.clock import rounds
from targets.stats.intervals import ERROR, LOOKS, Estimate, ratio, until_settled

CALL_S, PROCESS_S, START_S, LIMIT = 0.03, 0.6, 0.5, 5.0
SESSION = 0.0024  # standard deviation of a session's own factor, as measured on ONNX Runtime
JITTER, DRIFT, MEMORY = 0.015, 0.02, 0.98  # of a call; of what drifts, and how long it stays
WORLDS = 2000  # of each slowdown
CHUNK, BURST = 256, 20  # calls
# How often a call is held up, how often a burst begins, how much slower the machine's second mode is.
KINDS = ({"tail": 0.02, "burst": 0.0025}, {"tail": 0.1, "burst": 0.0}, {"burst": 0.01}, {"modes": 0.15})


class World:
    """A machine with its noise, and the two networks on it."""

    def __init__(
        self, slower: float, seed: int, tail: float = 0.0, burst: float = 0.0, modes: float = 0.0
    ) -> None:
        self.random = np.random.default_rng(seed)
        self.slower, self.now = slower, 0.0
        self.noise = self.calls(tail, burst, modes)

    def calls(self, tail: float, burst: float, modes: float) -> Iterator[float]:
        """Factors of one call after another: autocorrelated, with bursts and modes that hold for a while."""
        state, began, mode = np.zeros(1), np.zeros(BURST - 1), 1.0
        while True:
            steps, jitter = self.random.normal(0, 1, (2, CHUNK))
            drift, state = signal.lfilter([DRIFT], [1, -MEMORY], steps, zi=state)
            starts = np.concatenate([began, self.random.random(CHUNK) < burst])
            busy = np.convolve(starts, np.ones(BURST), "valid") > 0
            began = starts[CHUNK:]
            held = np.where(self.random.random(CHUNK) < tail, 1 + self.random.pareto(2, CHUNK), 1.0)
            mode = 1 + modes - mode + 1 if modes and self.random.random() < 0.5 else mode
            yield from (np.exp(drift + JITTER * jitter) * held * np.where(busy, 1.5, 1.0) * mode).tolist()

    def process(self, seed: int) -> dict[str, list[list[float]]]:
        """What the runner's job ``time`` gives: blocks of both, in a fresh process."""
        self.now += START_S
        lie = np.exp(self.random.normal(0, SESSION, 2))
        speeds = {"baseline": lie[0], "candidate": lie[1] * (1 + self.slower / 100)}

        def calling(name: str) -> None:
            self.now += CALL_S * speeds[name] * next(self.noise)

        calls = {name: (lambda name=name: calling(name)) for name in speeds}
        return rounds(calls, PROCESS_S, seed, lambda: self.now)


def decide(world: World) -> tuple[Outcome, float]:
    """What the gate says of ``slower_than_baseline = 5%``, and after how many simulated seconds."""

    def line(taken: list[dict[str, list[list[float]]]]) -> Outcome:
        times = ratio(
            [one["candidate"] for one in taken], [one["baseline"] for one in taken], 1 - ERROR / len(LOOKS)
        )
        more = Estimate(*(100 * (value - 1) for value in (times.value, times.low, times.high)))
        return outcome("at_most", LIMIT, more)

    taken = until_settled(world.process, lambda so_far: line(so_far) is not Outcome.INCONCLUSIVE)
    return line(taken), world.now


@cache
def outcomes(slower: float) -> list[tuple[Outcome, float]]:
    return [decide(World(slower, seed, **KINDS[seed % len(KINDS)])) for seed in range(WORLDS)]


def rate(found: list[tuple[Outcome, float]], outcome: Outcome, seconds: float = np.inf) -> float:
    return sum(one is outcome and took <= seconds for one, took in found) / len(found)


@pytest.mark.parametrize("slower", [0.0, 2.5, 5.0, 7.5, 10.0])
def test_a_wrong_answer_is_as_rare_as_promised(slower: float) -> None:
    wrong = [
        one for one, right in ((Outcome.FAIL, slower > LIMIT), (Outcome.PASS, slower < LIMIT)) if not right
    ]
    seen = sum(outcome in wrong for outcome, _ in outcomes(slower))
    # As many as the promised rate gives once in a thousand times.
    assert seen <= stats.binom.ppf(0.999, WORLDS, ERROR)


@pytest.mark.parametrize(("slower", "right"), [(2.5, Outcome.PASS), (7.5, Outcome.FAIL)])
def test_two_and_a_half_points_are_told_within_a_minute(slower: float, right: Outcome) -> None:
    assert rate(outcomes(slower), right, seconds=60) >= 0.95


@pytest.mark.parametrize(("slower", "right"), [(0.0, Outcome.PASS), (10.0, Outcome.FAIL)])
def test_five_points_are_told_within_twenty_seconds(slower: float, right: Outcome) -> None:
    assert rate(outcomes(slower), right, seconds=20) >= 0.99
