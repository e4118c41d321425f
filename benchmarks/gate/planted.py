"""A file that does more work for the same answers, and other work on the machine meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

SPIN = "while True: pass"
# Seconds of work and of rest, of all cores alike, drawn anew each time; the same for everybody who runs it.
BURSTS = """
import random, time
draw = random.Random(7)
while True:
    end = time.monotonic() + draw.expovariate(1 / 1.5)
    while time.monotonic() < end:
        pass
    time.sleep(draw.expovariate(1 / 1.5))
"""
CONDITIONS = {"idle": (), "one core loaded": (SPIN,), "bursts": (BURSTS, BURSTS)}


def planted(model: onnx.ModelProto, units: int, path: Path) -> Path:
    """The model with ``units`` more operators after its answers, whose outcome is added as zeros.

    Real work: ONNX Runtime cannot leave it out, as it does not know that a sine times zero is none.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    graph, answers = proto.graph, proto.graph.output[0].name
    if units:
        for node in graph.node:
            node.output[:] = ["plain" if name == answers else name for name in node.output]
            node.input[:] = ["plain" if name == answers else name for name in node.input]
        names = ["plain", *(f"sine {number}" for number in range(units))]
        graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "no part of it"))
        graph.node.extend(helper.make_node("Sin", [a], [b]) for a, b in pairwise(names))
        graph.node.append(helper.make_node("Mul", [names[-1], "no part of it"], ["nothing"]))
        graph.node.append(helper.make_node("Add", ["plain", "nothing"], [answers]))
    onnx.save(proto, path)
    return path


@contextmanager
def working(condition: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Others' work on this machine, for as long as the block lasts."""
    others = [subprocess.Popen([sys.executable, "-c", code]) for code in CONDITIONS[condition]]
    try:
        yield others
    finally:
        for one in others:
            one.kill()
            one.wait()
