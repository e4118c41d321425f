"""The embedded recipe, once, as `make deploy TARGET=cpu` runs it. What it is worth on a clock is for benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the workshop needs torch: pip install 'retort[train]'")
pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install 'retort[train]'")


def test_the_embedded_recipe_ends_in_an_int8_network_that_keeps_its_accuracy(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.cli.main", "deploy", "digits", "--target", "cpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    table = json.loads((tmp_path / "report" / "report.json").read_text())
    (target,) = table["targets"]
    outcomes = {line["budget"]: line["outcome"] for line in target["lines"]}
    assert outcomes["drop_vs_teacher"] == outcomes["drop_vs_float"] == "PASS", done.stdout
    int8 = target["candidates"]["int8"]
    assert table["test_images"] == 719
    assert int8["accuracy"]["value"] > 0.97
    assert int8["size_bytes"] < 0.4 * target["candidates"]["float"]["size_bytes"]
    if {"avx512_vnni", "avx_vnni"} & set(target["environment"]["cpu"]["features"]):
        assert int8["facts"]["operators"]["QLinearConv"] == 9, "every convolution of resnet8 runs in int8"
    assert done.returncode == table["status"]
    assert "Traceback" not in done.stderr
