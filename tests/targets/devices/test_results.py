"""What a device answers is checked: whatever it sends, the command says in one line what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from targets.arrays import read_answers
from targets.devices.base import RunnerFolder
from targets.devices.results import read_result
from targets.errors import Unmeasurable

PLACE = {"cpu": {"model": "a cpu", "features": ["avx2"]}, "load": 0.5}
SEEN = {"time": "now", "before": PLACE, "after": PLACE}
TIMED = {**SEEN, "blocks": {"a": [[0.1, 0.2], [0.1, 0.1]], "b": [[0.3], [0.2]]}, "timer": {"step_s": 1e-9}}
JOB = {"do": "time", "engines": {"a": {}, "b": {}}, "backend": "onnxruntime"}


def read(result: Any, do: str) -> dict[str, Any]:
    return read_result(json.dumps(result).encode(), {**JOB, "do": do})


def test_what_a_runner_writes_is_read_as_it_is() -> None:
    assert read(TIMED, "time") == TIMED
    assert read({**SEEN, "facts": {"operators": {"Conv": 1}, "more": [1]}}, "build")["facts"]["more"] == [1]
    assert read({**SEEN, "memory_bytes": None}, "answer")["memory_bytes"] is None
    assert read({"time": "now", "missing": "no runtime"}, "time") == {"time": "now", "missing": "no runtime"}


@pytest.mark.parametrize(
    ("do", "result", "told"),
    [
        ("look", [], "no table"),
        ("look", {**SEEN, "after": {}}, "after.cpu: missing"),
        ("look", {**SEEN, "after": {**PLACE, "cpu": {"model": 3, "features": []}}}, "after.cpu.model"),
        ("build", SEEN, "facts: missing"),
        ("build", {**SEEN, "facts": {"operators": ["Conv"]}}, "facts.operators"),
        ("build", {**SEEN, "facts": {"float_operators": [3]}}, "facts.float_operators"),
        ("answer", SEEN, "memory_bytes: missing"),
        ("answer", {**SEEN, "memory_bytes": {}}, "memory_bytes"),
        ("time", {**TIMED, "blocks": {"a": [[0.1]]}}, "not of the engines"),
        ("time", {**TIMED, "blocks": {"a": [[0.1]], "b": [[0.1], [0.1]]}}, "more of them than another"),
        ("time", {**TIMED, "blocks": {"a": [[0.1], [0.1, 0.2]], "b": [[0.1], [0.1]]}}, "longer than another"),
        ("time", {**TIMED, "blocks": {"a": [["0.1"]], "b": [[0.1]]}}, "blocks.a.0.0"),
        ("time", {**TIMED, "blocks": {"a": [[-0.1]], "b": [[0.1]]}}, "greater than 0"),
        ("time", {**TIMED, "blocks": {"a": [[float("inf")]], "b": [[0.1]]}}, "Infinity is no number"),
        ("time", {**TIMED, "blocks": {"a": [], "b": []}}, "blocks.a"),
        (
            "sustain",
            {**SEEN, "windows": [{"at": 0.0, "median": {"a": 1.0}, "state": {}}]},
            "not of the engines",
        ),
    ],
)
def test_a_result_that_is_none_is_told(do: str, result: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read(result, do)


class Sending(RunnerFolder):
    """A device that answers every job with the same bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data

    def start(self, job: str) -> tuple[int, str]:
        return 0, ""

    def read(self, name: str) -> bytes:
        return self.data


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"{", b"[" * 100_000, b'{"time": "\x1b[2J', b"1" * 5000])
def test_bytes_that_are_no_result_are_not_measured(data: bytes) -> None:
    with pytest.raises(Unmeasurable, match="the runner's result of 'time' with onnxruntime cannot be used"):
        Sending(data).run(JOB)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:60],
        lambda data: data[:-8],
        lambda data: b"",
        lambda data: data.replace(b"(4, 3)", b"(5, 3)"),
        lambda data: data.replace(b"(4, 3), }  ", b"(4, 9**9),}")[:200] + data[200:],
        lambda data: data.replace(b"<f4", b"|O "),
        lambda data: data.replace(b"<f4", b"<U1"),
        lambda data: data.replace(b"(4, 3), }", b"(4, 3),  "),
        lambda data: b"PK\x03\x04" + data,
    ],
)
def test_answers_that_are_none_are_told(change: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((4, 3), np.float32))
    assert read_answers(tmp_path / "a.npy", 4).shape == (4, 3)
    with pytest.raises(ValueError, match=r"a\.npy"):
        read_answers(tmp_path / "a.npy", 5)
    (tmp_path / "a.npy").write_bytes(change((tmp_path / "a.npy").read_bytes()))
    with pytest.raises(ValueError, match=r"a\.npy"):
        read_answers(tmp_path / "a.npy", 4)
