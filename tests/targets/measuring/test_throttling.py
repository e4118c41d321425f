"""Work without a pause: the clock's windows, what they come to, and how a report shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from targets.errors import Refusal
from targets.gate.gate import Given, gate
from targets.limits import Budgets
from targets.measuring.throttling import throttling
from targets.report.strips import WIDTH, places, strip
from targets.runner.clock import sustained, timer_facts
from targets.spec.profile import Profile, read_profile


class Oven:
    """A device that slows down by a share a second of work, to a bound."""

    def __init__(self, slowing: float) -> None:
        self.now, self.slowing = 0.0, slowing

    def call(self) -> None:
        self.now += 0.01 * (1 + min(0.5, self.slowing * self.now))

    def windows(self) -> list[dict[str, Any]]:
        state = lambda: {"celsius": 40 + min(40.0, self.now), "mhz": 2000.0}
        return sustained({"a": self.call, "b": self.call}, 100.0, 1, state, lambda: self.now)


def test_a_device_that_slows_down_is_found_throttled() -> None:
    found = throttling(Oven(0.01).windows())
    assert found["throttled"] and found["says"].startswith("throttled after 1.")
    assert found["ends"]["a"] == pytest.approx(1.5 / 1.05, rel=0.05)
    assert "40 to 80 °C" in found["says"].replace("41", "40") and "2,000 to 2,000 MHz" in found["says"]
    curve = found["curve"]["a"]
    assert curve == sorted(curve) and len(curve) == len(found["curve"]["at"])


def test_a_steady_one_is_not() -> None:
    found = throttling(Oven(0.0).windows())
    assert not found["throttled"] and found["says"].startswith("not throttled after")
    assert found["ends"] == pytest.approx({"a": 1.0, "b": 1.0})


def test_one_candidate_s_bad_luck_is_no_throttling() -> None:
    state: dict[str, float] = {}
    windows = [{"at": float(i), "median": {"a": 1.0, "b": 1.0 + i / 10}, "state": state} for i in range(20)]
    assert not throttling(windows)["throttled"]


def test_the_clock_knows_its_own_cost() -> None:
    ticks = iter(range(10_000))
    assert timer_facts(lambda: next(ticks) / 1000) == pytest.approx({"overhead_s": 0.001, "step_s": 0.001})
    assert timer_facts(lambda: 5.0) == {"overhead_s": 0.0, "step_s": 0.0}


@pytest.mark.parametrize(("text", "seconds"), [("10m", 600), ("90s", 90), ("1.5h", 5400)])
def test_a_spell_is_read_with_its_unit(text: str, seconds: float, tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(f'about = ""\nbackend = "onnxruntime"\nsustained = "{text}"\n')
    assert read_profile(str(path)).sustained == seconds
    path.write_text('about = ""\nbackend = "onnxruntime"\nsustained = "long"\n')
    with pytest.raises(Refusal, match=r"board\.toml: sustained: "):
        read_profile(str(path))


def test_the_gate_works_the_device_first_and_shows_it(network: Any, photos: Path, tmp_path: Path) -> None:
    profile = Profile(name="hot", about="", backend="onnxruntime", seconds=4.0, sustained=2.0)
    table = gate(Given(network("nchw-float32"), photos, profile), Budgets(size_mb=1), tmp_path / "out")
    found = table["targets"][0]["throttling"]
    assert set(found["ends"]) == {"candidate"} and len(found["curve"]["at"]) > 3
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Under load" in page and "min of work" in page
    assert "Judged hot" in (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    picture = ElementTree.parse(tmp_path / "out" / "budgets.svg")
    assert any("hot size_mb" in (one.text or "") for one in picture.iter())


def line(low: float, value: float, high: float, limit: float = 5.0) -> dict[str, Any]:
    return {"estimate": {"low": low, "value": value, "high": high}, "limit": limit}


def test_a_strip_shows_on_which_side_of_the_limit_an_interval_lies() -> None:
    middle = WIDTH // 2
    below, above, across = (strip(line(*ends)) for ends in ((1, 2, 3), (7, 8, 9), (4, 5.5, 6)))
    assert {len(below), len(above), len(across)} == {WIDTH}
    assert below.index("┤") < middle < above.index("├")
    assert below[middle] == above[middle] == "¦"
    assert across.index("├") < middle < across.index("●") < across.index("┤") and across[middle] == "┼"
    assert strip({"estimate": None, "limit": 1.0}) == ""


def test_places_hold_for_ends_without_bound_and_for_points() -> None:
    assert places(line(0.0, 1.0, float("inf"))) == (pytest.approx(-5 / 5.5), pytest.approx(-4 / 5.5), 1.0)
    assert places(line(5.0, 5.0, 5.0)) == (0.0, 0.0, 0.0)
