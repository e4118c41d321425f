"""NVIDIA's own timing of an engine, to see beside the one clock's; it decides nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import numpy as np

JETPACK = "/usr/src/tensorrt/bin/trtexec"  # where JetPack puts it, off the PATH
WARM_UP_MS, SECONDS = 500, 3


def figures(engine: str, shapes: str) -> dict[str, Any]:
    """Quantiles (ms) of ``latencyMs``, host to host, and of ``computeMs``, the GPU's share; or why there are none."""
    program = shutil.which("trtexec") or JETPACK
    if not os.path.exists(program):
        return {"tool": "trtexec", "missing": "there is no trtexec here (%s)" % JETPACK}
    times = engine + ".times.json"
    command = [program, "--loadEngine=" + engine, "--shapes=" + shapes, "--exportTimes=" + times]
    command += ["--warmUp=%d" % WARM_UP_MS, "--duration=%d" % SECONDS]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode != 0:
        return {"tool": "trtexec", "missing": "it failed: " + (done.stdout.strip().splitlines() or ["?"])[-1]}
    with open(times) as file:
        return {"tool": "trtexec", "command": " ".join(command), **quantiles(json.load(file))}


def quantiles(rows: Any) -> dict[str, Any]:
    """What ``--exportTimes`` holds: a list with a table for each inference."""
    try:
        columns = [np.array([float(row[name]) for row in rows]) for name in ("latencyMs", "computeMs")]
    except (KeyError, TypeError, ValueError) as error:
        return {"missing": "its times are of another form: %r" % error}
    if not len(rows):
        return {"missing": "it timed nothing"}
    latency, compute = ([float(np.percentile(column, q)) for q in (50, 99)] for column in columns)
    return {
        "p50_ms": latency[0],
        "p99_ms": latency[1],
        "gpu_p50_ms": compute[0],
        "gpu_p99_ms": compute[1],
        "calls": len(rows),
    }
