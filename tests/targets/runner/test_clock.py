"""The clock under a fake timer: time passes only in the calls, so every figure is exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.runner.clock import median, rounds, timed, warm_up

SHORT, LONG = 2**-10, 2**-5  # sums of these are exact; of the long one, a block is a single call


class Hours:
    """A timer that moves only when a call costs something, and a log of who called."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def call(self, name: str, *costs: float, growth: float = 1.0) -> Callable[[], None]:
        """A call that costs what is listed, then the last cost again and again, times ``growth`` a call."""
        waiting = list(costs)

        def call() -> None:
            self.log.append(name)
            self.now += waiting[0]
            if len(waiting) > 1:
                waiting.pop(0)
            else:
                waiting[0] *= growth

        return call


def test_timed_gives_the_time_of_each_call() -> None:
    timer = Hours()
    assert timed(timer.call("a", 0.5, 0.25, 4.0), 4, timer) == [0.5, 0.25, 4.0, 4.0]


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=20))
def test_median_splits_the_values_in_halves(values: list[int]) -> None:
    middle = median([float(value) for value in values])
    assert sum(value < middle for value in values) * 2 <= len(values)
    assert sum(value > middle for value in values) * 2 <= len(values)


def test_median_of_an_even_number_is_between_the_two_in_the_middle() -> None:
    assert median([9.0, 1.0, 2.0, 4.0]) == 3.0


@pytest.mark.parametrize(
    ("cost", "calls"),
    [(0.02 / 7.5, 7), (LONG, 1), (10.0, 1), (0.02 / 50.5, 50), (1e-6, 50), (0.0, 50)],
)
def test_a_block_fills_its_time_with_one_to_fifty_calls(cost: float, calls: int) -> None:
    timer = Hours()
    assert warm_up(timer.call("a", cost), timer) == calls


def test_a_slow_first_call_does_not_set_the_size_of_a_block() -> None:
    timer = Hours()
    assert warm_up(timer.call("a", 5.0, 0.02 / 4.5), timer) == 4


def test_warm_up_of_a_steady_call_ends_as_soon_as_it_may() -> None:
    """Three calls to size the block, three blocks, and one that agrees with the one before."""
    timer = Hours()
    warm_up(timer.call("a", LONG), timer)
    assert len(timer.log) == 3 + 4


def test_warm_up_goes_on_until_two_blocks_agree() -> None:
    timer = Hours()
    falling = [LONG * 2**step for step in range(12, 0, -1)]
    warm_up(timer.call("a", *falling, LONG), timer)
    assert len(timer.log) == len(falling) + 2, "LONG is seen once, and once more to agree"


@pytest.mark.parametrize(("growth", "ends"), [(1.06, False), (1.04, True)])
def test_warm_up_is_bounded_where_blocks_never_agree(growth: float, ends: bool) -> None:
    timer = Hours()
    warm_up(timer.call("a", LONG, growth=growth), timer)
    assert len(timer.log) == 3 + (4 if ends else 40)


def test_rounds_give_exact_times_in_blocks_of_the_warm_ups_size() -> None:
    timer = Hours()
    blocks = rounds({"a": timer.call("a", LONG), "c": timer.call("c", SHORT)}, 1.0, 1, timer)
    assert blocks["a"] == [[LONG]] * len(blocks["a"])
    assert blocks["c"] == [[SHORT] * 20] * len(blocks["c"])  # 20 ms of 1/1024 s


@pytest.mark.parametrize("seconds", [0.0, 0.01, 1.0])
def test_every_model_has_the_same_number_of_blocks_and_at_least_three(seconds: float) -> None:
    timer = Hours()
    blocks = rounds({"a": timer.call("a", LONG), "c": timer.call("c", SHORT)}, seconds, 1, timer)
    a_round = LONG + 20 * SHORT
    assert {len(mine) for mine in blocks.values()} == {max(3, int(-(-seconds // a_round)))}


def test_a_round_that_has_begun_is_finished_and_none_begins_late() -> None:
    timer = Hours()
    spent: list[float] = []
    call = timer.call("a", LONG)

    def watched() -> None:
        spent.append(timer.now)
        call()

    blocks = rounds({"a": watched}, 5.25 * LONG, 0, timer)
    assert blocks["a"] == [[LONG]] * 6
    assert spent[-1] < spent[-6] + 5.25 * LONG <= timer.now


def turns(seed: int) -> list[tuple[str, ...]]:
    """Thirty rounds of three models whose blocks are one call: who was called, round by round."""
    timer = Hours()
    blocks = rounds({name: timer.call(name, LONG) for name in "abc"}, 90 * LONG, seed, timer)
    assert [len(mine) for mine in blocks.values()] == [30, 30, 30]
    order = timer.log[-90:]
    return [tuple(order[start : start + 3]) for start in range(0, 90, 3)]


def test_the_order_within_a_round_is_drawn_anew() -> None:
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns(1))
    assert len(set(turns(1))) == 6, "all orders of three come up"


def test_the_order_depends_on_the_seed_alone() -> None:
    assert turns(1) == turns(1)
    assert turns(1) != turns(2)


def test_what_the_machine_does_meanwhile_falls_on_all_alike() -> None:
    """Every call grows slower as time passes: the models' totals still differ by a round at most."""
    timer = Hours()

    def call() -> None:
        timer.now += LONG * (1 + timer.now / 10)

    blocks = rounds({"a": call, "b": call}, 20.0, 3, timer)
    a, b = (sum(block[0] for block in blocks[name]) for name in "ab")
    rising = [block[0] for name in "ab" for block in blocks[name]]
    assert max(rising) > 2 * min(rising)
    assert abs(a / b - 1) < 0.05
