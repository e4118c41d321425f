"""A runtime that is loaded leaves nothing in the user's home: no number to be counted by, nothing to be sent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support import ROOT
from targets.runner.backends import BACKENDS

LOAD = """
import sys
from targets.runner.backends import backend
runtime, model = backend(sys.argv[1]), sys.argv[2]
print(runtime.missing())
if runtime.missing() is None and "onnx" in runtime.files:
    runtime.load(model, {"threads": 1, "batch": 1, "precision": "float32"})
"""


@pytest.mark.parametrize("name", BACKENDS)
def test_loading_a_runtime_leaves_nothing_in_the_home(
    name: str, small_network: Callable[[str], Path], tmp_path: Path
) -> None:
    """In a command's own process, where nothing is set for it."""
    (home := tmp_path / "home").mkdir()
    own = {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "ORT_"))}
    command = [sys.executable, "-c", LOAD, name, str(small_network("nchw-float32"))]
    done = subprocess.run(command, env={**kept, **own}, capture_output=True, text=True, check=True)
    if done.stdout.strip() != "None":
        pytest.skip(done.stdout.strip())
    assert list(home.rglob("*")) == []
