"""NVIDIA's own word on a file: the parser and the builder of TensorRT-RTX, TensorRT's sibling for desktop cards.

``pip install tensorrt-rtx`` brings both; neither needs a GPU. What it builds does not run on a Jetson, and it is
laxer than the Jetson's parser: its yes proves less than its no. It is asked in a process of its own, because some
files kill it (a scale that the graph computes: signal 11 in 1.7.1).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorrt_rtx import ParserError

ROOT = Path(__file__).parents[2]
# A GPU that 1.7.1 builds for without having it, and the nearest to Orin's SM87, for which it does not.
CAPABILITY = "SM86"
BATCH = 1
# Said on every machine without a driver, and of no file.
NO_DRIVER = "Cuda Runtime"


def second_opinion(path: Path) -> list[str] | None:
    """What it has against a file; empty when it parses and builds it, None where it is not installed."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return None
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        answer = Path(folder) / "answer.json"
        # -P: a module of that name in the current folder is not imported.
        paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-P", "-m", "targets.convert.tensorrt_parser", str(path), str(answer)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            return [f"{path.name}: tensorrt-rtx ended with status {done.returncode}: {last}"]
        objections: list[str] = json.loads(answer.read_text())
    return objections


def ask(path: str) -> list[str]:
    import tensorrt_rtx as trt

    class Listener(trt.ILogger):
        """Keeps the errors; the builder tells its own nowhere else."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: trt.ILogger.Severity, text: str) -> None:
            if severity <= trt.ILogger.ERROR and NO_DRIVER not in text:
                self.errors.append(text)

    listener = Listener()
    builder = trt.Builder(listener)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, listener)
    if not parser.parse_from_file(path):
        return [describe(parser.get_error(index)) for index in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, CAPABILITY), 0)
    profile = builder.create_optimization_profile()
    for images in (network.get_input(index) for index in range(network.num_inputs)):
        sizes = [BATCH if side < 0 else side for side in images.shape]
        profile.set_shape(images.name, sizes, sizes, sizes)
    config.add_optimization_profile(profile)
    if builder.build_serialized_network(network, config) is None:
        return listener.errors or ["it built no engine and did not say why"]
    return []


def describe(error: ParserError) -> str:
    place = " ".join(filter(None, (error.node_operator(), error.node_name()))) or "the model"
    lines = [line for line in error.desc().splitlines() if NO_DRIVER not in line]
    return f"{place}: {' '.join(lines)}"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(ask(sys.argv[1])))
