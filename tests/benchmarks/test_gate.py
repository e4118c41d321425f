"""The benchmark of the gate: planted work changes no answer, replays decide as the gate does, the table draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from benchmarks.gate import accuracy
from benchmarks.gate.__main__ import AWAY, judged, shares
from benchmarks.gate.planted import CONDITIONS, planted, working
from benchmarks.gate.rules import decided, replays, truth, usual
from benchmarks.gate.table import markdown, plot
from benchmarks.gate.traces import SLOWER, Kept, told
from targets.budgets.line import Outcome
from targets.stats.intervals import LOOKS


def rows(count: int = 60, spread: float = 0.002) -> list[dict[str, Any]]:
    """A trace in which the names are the truth; the machine drifts by a half from end to end."""
    generator, found = np.random.default_rng(5), []
    for number in range(count):
        speed = 1 + 0.5 * number / count
        names = {"baseline": 0.0, **{str(slower): slower for slower in SLOWER}}
        blocks = {
            name: (speed * (1 + slower / 100) * np.exp(generator.normal(0, spread, (5, 20)))).tolist()
            for name, slower in names.items()
        }
        of = {name: told(blocks, name) for name in blocks}
        found.append({"start_s": 0.5, "load": 0.1, "when": 1.8e9 + number, "of": of})
    return found


def test_planted_work_is_done_and_changes_no_answer(
    small_network: Callable[[str], Path], tmp_path: Path
) -> None:
    model = onnx.load(small_network("nchw-float32"))
    slow = planted(model, 7, tmp_path / "slow.onnx")
    images = np.random.default_rng(0).random((3, 3, 8, 8), dtype=np.float32)
    answers = [
        ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(["logits"], {"images": images})[0]
        for file in (small_network("nchw-float32"), slow)
    ]
    np.testing.assert_array_equal(*answers)
    assert sum(node.op_type == "Sin" for node in onnx.load(slow).graph.node) == 7


@pytest.mark.parametrize("condition", CONDITIONS)
def test_other_work_ends_with_its_block(condition: str) -> None:
    with working(condition) as others:
        assert [one.poll() for one in others] == [None] * len(CONDITIONS[condition])
    assert all(one.poll() is not None for one in others)


def test_a_replay_decides_what_the_trace_is() -> None:
    trace = rows()
    assert truth(trace, "7.5") == pytest.approx(7.5, abs=0.1)
    right = {0.0: Outcome.PASS, 10.0: Outcome.FAIL}
    for slower, outcome in right.items():
        found = replays(trace, str(slower), 5.0, 1.0, 20, 0)
        assert {one for one, _ in found} == {outcome}
        assert {seconds for _, seconds in found} == {LOOKS[0] * 1.5}, "each process: its start and its rounds"
    wide = np.exp(np.random.default_rng(0).normal(np.log(1.05), 0.05, LOOKS[-1]))
    assert decided(wide, 5.0) == (Outcome.INCONCLUSIVE, LOOKS[-1])


def test_the_usual_rules_read_the_same_rows() -> None:
    trace = rows()
    assert all(usual(trace, "0.0", 5.0, 1)["mean of 20"][:5])
    assert not any(usual(trace, "10.0", 5.0, 1)["t-test on raw samples"])
    stored = usual(trace, "0.0", 5.0, 1)["stored baseline ± 10 %"]
    assert 0 < sum(stored) < len(stored), "a drift of a half makes a stored figure a matter of luck"


def test_shares_count_each_answer_and_when_it_came() -> None:
    found = shares(
        [
            (True, Outcome.FAIL, 5),
            (True, Outcome.PASS, 5),
            (False, Outcome.PASS, 50),
            (True, Outcome.FAIL, 30),
        ]
    )
    assert (found["PASS"], found["FAIL"], found["right_20s"], found["right_60s"]) == (0.5, 0.5, 0.25, 0.75)


def test_the_accuracy_gate_keeps_its_promise_where_it_was_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "IMAGES", (500,))
    monkeypatch.setattr(accuracy, "TRIALS", 1500)
    at_limit = [row for row in accuracy.drops() if row["drop"] == accuracy.LIMIT]
    for row in at_limit:
        assert max(row["PASS"], row["FAIL"]) < 0.025 + 0.013, "three standard deviations of 1500 trials"
        assert row["plain PASS"] > 0.3
    monkeypatch.setattr(accuracy, "CLASSES", ((100, 100),))
    fine, below = accuracy.worst_classes()
    assert fine["FAIL"] < 0.04 and below["PASS"] == 0.0 and fine["plain PASS"] < 0.01


def test_rows_are_kept_line_by_line(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "a" / "rows.jsonl")
    assert kept.rows() == []
    kept.add({"a": 1})
    kept.add({"b": 2})
    assert Kept(kept.path).rows() == [{"a": 1}, {"b": 2}]


def test_the_table_and_the_picture_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gate.__main__.REPLAYS", 100)
    tried = {"slower": 10.0, "outcome": "FAIL", "found": {"value": 10.1}, "seconds": 8.0}
    environment = {"load": 0.1, "host": "h", "cores": 2, "python": "3", "cpu": {"model": "c", "features": []}}
    run = {
        "started": "a",
        "ended": "b",
        "commit": "c",
        "versions": {},
        "before": environment,
        "after": environment,
    }
    table = {
        "model": "m.onnx",
        "size": 32,
        "error": 0.01,
        "replays": 10,
        "run": run,
        "accuracy_limit": 0.01,
        "recall_limit": 0.8,
        "accuracy": [
            {"images": 500, "flips": 0.1, "drop": 0.01, "PASS": 0.0, "FAIL": 0.0, "plain PASS": 0.5}
        ],
        "classes": [{"classes": 10, "images": 9, "below": 0.0, "PASS": 0.0, "FAIL": 0.0, "plain PASS": 0.0}],
        "conditions": {"idle": {**judged(rows(), 1.0), "live": [tried]}},
    }
    text = "\n".join(markdown(table))
    assert all(f"| {gap:+g} |" in text for gap in AWAY)
    assert "| 10.0 % | 10.1 % | 1 | 0 | 1 | 0 | 8, 8 |" in text
    ElementTree.fromstring(plot(table))
