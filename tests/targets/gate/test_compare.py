"""The rows of a comparison: what is said of the new file against the old one, each by hand."""

from __future__ import annotations

from pathlib import Path

from support.verdicts import CLASSES, LABELS, answers, measured
from targets.budgets.evidence import TestSet
from targets.gate.compare import rows


def test_each_row_is_the_new_file_against_the_old() -> None:
    old = measured(answers(range(10)), [2.0] * 5, size_bytes=400_000, artifact=Path("old.onnx"))
    new = measured(answers(range(60)), [1.0] * 5, size_bytes=100_000)
    found = {row[0]: row[1:] for row in rows(old, new, TestSet(LABELS, CLASSES, {}))}
    assert found["latency p50"][:2] == ("2 ms", "1 ms") and found["latency p50"][2].startswith("-50.00 % [")
    assert found["accuracy"][:2] == ("99.00%", "94.00%")
    assert found["accuracy"][2].startswith("-5.00 points [")
    assert found["same answers"][2].startswith("95.00% [")
    assert found["size"] == ("0.4 MB", "0.1 MB", "-75.0%")


def test_where_nothing_was_timed_no_latency_is_told() -> None:
    bare = measured(answers([]), blocks=[])
    assert [row[0] for row in rows(bare, bare, TestSet(LABELS, CLASSES, {}))] == [
        "accuracy",
        "same answers",
        "size",
    ]
