"""A runtime that is loaded leaves nothing in the user's home: no number to be counted by, nothing to be sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT
from targets.devices.base import QUIET
from targets.runner.backends import BACKENDS

LOAD = "import sys; from targets.runner.backends import backend; print(backend(sys.argv[1]).missing())"


@pytest.mark.parametrize("name", BACKENDS)
def test_loading_a_runtime_leaves_nothing_in_the_home(name: str, tmp_path: Path) -> None:
    own = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **QUIET}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    command = [sys.executable, "-c", LOAD, name]
    done = subprocess.run(command, env={**kept, **own}, capture_output=True, text=True, check=True)
    if done.stdout.strip() != "None":
        pytest.skip(done.stdout.strip())
    assert list(tmp_path.rglob("*")) == []
