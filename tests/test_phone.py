"""Phones: the files that they take, and a stand-in for one behind the real adb client."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
from fake_adb import SERIAL, fake_phone

from targets.budgets import read_budgets
from targets.devices import check_device
from targets.gate import Given, gate
from targets.packing import on_arm
from targets.profile import Profile, profiles, read_profile, targets_of
from targets.refusal import PASSED, UNDECIDED, Refusal
from targets.runner.ort import is_ort

Network = Callable[[str], Path]
NO_ADB = pytest.mark.skipif(shutil.which("adb") is None, reason="no adb; apt-get install adb")
PROPERTIES = {"ro.product.model": "Stand-in", "ro.build.version.release": "0", "ro.product.cpu.abi": "none"}
# As the tools print them: tensorflow/tensorflow issue 42507 with the percentiles that newer ones add, and
# microsoft/onnxruntime issue 17313. The figures are made up.
LITERT = """Loaded model /data/local/tmp/m.tflite
count=15 first=49060 curr=33682 min=32825 max=49060 avg=34825.1 std=3930 p5=32825 median=34000 p95=49060

count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450 p5=32700 median=33100 p95=33990

Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 34825.1, Inference (avg): 33209.4"""
PERF_TEST = """Average inference time cost: 33.1 ms
Total inference run time: 58.8102 s
P50 Latency: 0.0331 s
P99 Latency: 0.0619517 s"""


@dataclass(frozen=True)
class Bed:
    """A phone's folder, and a profile that times there with a stand-in for the runtime's tool."""

    folder: Path
    place: Path
    profile: Profile

    def tool(self, says: str) -> None:
        """A tool that looks for its model first."""
        script = f'#!/bin/sh\nfor word; do file=${{word#--graph=}}; [ -s "$file" ] && found=1; done\n[ $found ] || exit 9\ncat <<END\n{says}\nEND\n'
        self.place.joinpath("perf").write_text(script)


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    place = tmp_path / "desk"
    place.mkdir()
    own = place / "own.toml"
    own.write_text('extends = "android-ort"\ntool = "perf"\nlayout = "nchw-float32"\nseconds = 40\n')
    with fake_phone(place, PROPERTIES) as port:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        yield Bed(place, place, read_profile(str(own)))


def judged(
    bed: Bed, model: Path, photos: Path, out: Path, *budgets: str, device: str = SERIAL
) -> dict[str, Any]:
    given = Given(model, photos, bed.profile, f"adb://{device}")
    (target,) = gate(given, read_budgets(list(budgets)), out)["targets"]
    return target


def outcomes(target: dict[str, Any]) -> dict[str, str]:
    return {line["budget"]: line["outcome"] for line in target["lines"]}


@NO_ADB
def test_a_phone_times_and_this_machine_answers(
    bed: Bed, network: Network, photos: Path, tmp_path: Path
) -> None:
    bed.tool(PERF_TEST)
    target = judged(
        bed, network("nchw-float32"), photos, tmp_path / "out", "agreement=20", "p50_ms=34", "p99_ms=900"
    )
    assert outcomes(target) == {"agreement": "PASS", "p50_ms": "PASS", "p99_ms": "NOT MEASURED"}
    found = target["candidates"]["candidate"]
    assert found["latency_ms"]["p50"]["value"] == pytest.approx(33.1) and "p99" not in found["latency_ms"]
    assert target["environment"]["host"] == "Stand-in"
    assert target["protocol"]["timer"]["tool"] == "perf"
    assert is_ort(str(tmp_path / "out" / "candidate.ort"))
    assert "NOT MEASURED" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not (bed.folder / "retort").exists(), "nothing is left on it"
