"""The benchmark of the training: every side trains and is timed, and the table says what the rows say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training is torch's")

from benchmarks.evidence import circumstances, finished
from benchmarks.training import growth, same
from benchmarks.training.__main__ import CASES, SIDES, cells, command, environment, lines, random_pixels, said
from benchmarks.training.sides import timed


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    random_pixels(tmp_path / "set.npz", 60, 2)
    small = {
        "classes": 2,
        "images": 16,
        "pair": ["resnet8", "resnet8"],
        "batch": 8,
        "warm": 8,
        "seconds": 0.1,
    }
    (tmp_path / "spec.json").write_text(
        json.dumps({**small, "data": [str(tmp_path / "set.npz")], "method": "kd"})
    )
    return tmp_path / "spec.json"


@pytest.mark.parametrize("side", ["plain", "ours", "ours, replayed", "ours, two processes"])
def test_a_side_trains_in_processes_of_its_own(side: str, spec: Path) -> None:
    found = said(command(side, Path("not asked"), spec), environment(side))
    assert found["images_per_second"] > 0 and found["peak_bytes"] > 1e7


def test_the_warm_up_is_not_counted() -> None:
    given = iter([4, 4, 4])
    with pytest.raises(StopIteration):
        timed(given, 9, 1000.0)
    assert list(given) == []
    assert timed(iter([5] * 10**6), 5, 0.01) > 0


def row(number: int, method: str, batch: int, side: str, rate: float) -> dict[str, Any]:
    own = {"images_per_second": rate, "peak_bytes": 2e8}
    return {"round": number, "method": method, "batch": batch, "side": side, **own}


def test_ratios_are_taken_within_a_round() -> None:
    rates = {"plain": 100.0, "torchdistill": 80.0, "ours": 300.0, "ours, replayed": 450.0}
    rates |= {f"{side}, two processes": 1.1 * rates[side] for side in ("ours", "ours, replayed")}
    rows = [
        row(
            number, method, batch, side, rates[side] * (1 + number)
        )  # the machine is twice as fast in the second
        for number in range(2)
        for method, batch in CASES
        for side in SIDES[method]
    ]
    peaks = [{"torch.float32": 1e11, "torch.bfloat16": 4e11}]
    found = {(line[0], line[1], line[2]): line for line in cells({"rows": rows, "peaks": peaks})}
    assert found["kd", "64", "ours"][4] == "3.00 (3.00 to 3.00)"
    assert found["srkd", "256", "ours"][3] == "450 (300 to 600)"
    share = 450 * 2 * (3 * 40.8e6 + 125.8e6) / 4e11
    assert found["kd", "256", "ours"][6] == f"{share:.0%}"
    table = {
        "rows": rows,
        "peaks": peaks,
        "versions": {"torchdistill": "1"},
        "seconds": 8.0,
        "images": "random pixels",
    }
    text = "\n".join(lines({**table, "run": finished(circumstances())}))
    assert "2 rounds" in text and "| kd | 64 | ours, replayed |" in text


def test_a_path_is_compared_seed_by_seed() -> None:
    """All paths lose as much with the second seed: the differences have no spread."""
    rows = [
        {"path": path, "seed": seed, "accuracy": 90.0 - 5 * seed + 0.5 * number}
        for seed in range(3)
        for number, path in enumerate(same.PATHS)
    ]
    found = list(same.cells(rows))
    assert [line[1] for line in found] == [f"{85 + 0.5 * number:.2f}" for number in range(len(same.PATHS))]
    assert found[0][3] == "–" and found[2][3] == "+1.00 [+1.00, +1.00]"


def test_growth_is_told_by_the_multiply_add() -> None:
    rows = [
        {"round": 0, "case": index, **growth.BASE, **case, "images_per_second": 1e3, "peak_bytes": 1e8}
        for index, case in enumerate(growth.CASES)
    ]
    found = list(growth.cells(rows))
    assert [line[0] for line in found[:3]] == ["640", "2,560", "10,240"]
    cost = growth.work(("resnet20", "resnet8"), 100)
    assert cost == pytest.approx(40.8e6 + 3 * 12.5e6, rel=0.02)
    assert found[0][4].startswith("1,000 ") and found[0][5] == f"{1e9 / cost:.1f}"
