"""Runs tests in processes that have the large libraries already: ``python -P server.py``, a line of JSON a run.

To import torch takes longer than most tests. So one process imports what is not the project's, and forks for each
run: ``{"tests": […], "limit": seconds, "said": file, "keep": bool}`` in, the exit status out, -14
where it ran too long.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn

import pytest

LIBRARIES = (
    "numpy",
    "scipy.stats",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "pydantic",
    "hypothesis",
    "rich.progress",
    "typer",
    "jinja2",
    "PIL.Image",
    "torch",
    "torchvision",
    "torch_pruning",
    "safetensors.torch",
    "sklearn",
)
ARGUMENTS = ("-x", "-q", "-p", "no:cacheprovider", "--tb=line")


def main() -> None:
    for name in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with suppress(ProcessLookupError):  # what the tests have started goes with them
            os.killpg(child, signal.SIGKILL)
        print(status, flush=True)


def run(asked: dict[str, Any]) -> NoReturn:
    """Bytecode is kept of the right files alone: that of a fault could be taken for theirs."""
    os.setsid()
    signal.alarm(asked["limit"])
    said, nothing = os.open(asked["said"], os.O_WRONLY | os.O_CREAT), os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(old, new)
    sys.dont_write_bytecode = not asked["keep"]
    if sys.dont_write_bytecode:
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    status = int(pytest.main([*ARGUMENTS, *asked["tests"]]))
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
