"""This machine as a device: a quiet process, without this Python's paths; and each job has a result of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from targets.devices.base import QUIET, Local, RunnerFolder

PLACE = {"cpu": {"model": "none", "features": []}}


def test_the_runner_s_process_is_quiet_and_has_no_path_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    environment = Local(tmp_path / "device").environment
    assert environment.items() >= QUIET.items() and "PYTHONPATH" not in environment


class Told(RunnerFolder):
    """A folder whose runner writes one result and then none."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}

    def start(self, job: str) -> tuple[int, str]:
        result = {"time": "now", "before": PLACE, "after": PLACE}
        if not self.files:
            self.files[json.loads(job)["result"]] = json.dumps(result).encode()
        return 0, ""

    def read(self, name: str) -> bytes:
        if name not in self.files:
            raise FileNotFoundError(f"{name} is not there")
        return self.files[name]


def test_an_older_job_s_result_is_not_this_one_s() -> None:
    device, job = Told(), dict[str, Any](do="look", backend="toy")
    assert device.run(job)["time"] == "now"
    with pytest.raises(Exception, match=r"result of 'look' with toy cannot be used: .*is not there"):
        device.run(job)
