"""Phones: the files that they take, and a stand-in for one behind the real adb client."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest

from support import qdq
from support.fake_adb import SERIAL, fake_phone, getprop
from support.qdq import regridded
from targets.convert.mobile import on_arm
from targets.devices.address import check_device
from targets.errors import UNDECIDED, Refusal, Unmeasurable
from targets.gate.compare import compare
from targets.gate.gate import Given, gate, lock
from targets.limits import read_budgets
from targets.runner.backends import PhoneTool, backend
from targets.runner.backends.ort import is_ort
from targets.spec.profile import read_profile, targets_of

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


# A tool that looks for its model first.
TOOL = """#!/bin/sh
for word; do file=${{word#--graph=}}; [ -s "$file" ] && found=1; done
[ $found ] || exit 9
cat <<END
{says}
END
"""


@dataclass(frozen=True)
class Bed:
    """A phone's folder, and a profile that times there with a stand-in for the runtime's tool."""

    folder: Path
    model: Path
    photos: Path

    def judged(self, says: str, *budgets: str, device: str = SERIAL, profile: str = "") -> dict[str, Any]:
        (self.folder / "perf").write_text(TOOL.format(says=says))
        own = self.folder / "own.toml"
        own.write_text(profile or 'extends = "android-ort"\ntool = "perf"\nlayout = "nchw-float32"')
        given = Given(self.model, self.photos, read_profile(str(own)), f"adb://{device}")
        (target,) = gate(given, read_budgets(list(budgets)), self.folder / "out")["targets"]
        return target  # type: ignore[no-any-return]


@pytest.fixture
def bed(network: Network, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    folder = tmp_path / "phone"
    folder.mkdir()
    with fake_phone(folder, PROPERTIES) as port:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        yield Bed(folder, network("nchw-float32"), photos)


def outcomes(target: dict[str, Any]) -> dict[str, str]:
    return {line["budget"]: line["outcome"] for line in target["lines"]}


@NO_ADB
def test_a_phone_times_and_this_machine_answers(bed: Bed) -> None:
    target = bed.judged(PERF_TEST, "agreement=20", "p50_ms=34", "p99_ms=900", "p99_vs_reference=9")
    missing = dict.fromkeys(("p99_ms", "p99_vs_reference"), "NOT MEASURED")
    assert outcomes(target) == {"agreement": "PASS", "p50_ms": "PASS", **missing}
    found = target["candidates"]["candidate"]
    assert found["latency_ms"]["p50"]["value"] == pytest.approx(33.1) and "p99" not in found["latency_ms"]
    assert found["artifact"] == "candidate.ort"
    assert target["environment"]["host"] == "Stand-in"
    assert target["environment"]["cpu"]["model"] == "Stand-in"
    assert target["protocol"]["timer"]["tool"] == "perf"
    assert "no tail" in (bed.folder / "out" / "report.html").read_text(encoding="utf-8")
    assert not (bed.folder / "retort").exists(), "nothing is left on it"
    assert outcomes(bed.judged(PERF_TEST, "p50_ms=33")) == {"p50_ms": "FAIL"}


@NO_ADB
@pytest.mark.parametrize(
    ("says", "device", "profile", "why"),
    [
        (
            "P51 Latency: 1 s",
            SERIAL,
            "",
            "adb://FAKE-0001: the tool printed no median, but: P51 Latency: 1 s",
        ),
        (PERF_TEST, "FAKE-0002", "", "adb://FAKE-0002: .*'FAKE-0002' not found"),
        (PERF_TEST, SERIAL, 'extends = "android-ort"', "what shall time there.*onnxruntime_perf_test"),
        (PERF_TEST, SERIAL, 'extends = "android-ort"\ntool = "none"', "adb://FAKE-0001: .*none"),
        (PERF_TEST, SERIAL, 'extends = "android-litert"\ntool = "perf"', "no .tflite was made of it"),
        (PERF_TEST, SERIAL, 'extends = "android-ort"\ntool = "perf"\nsustained = "1m"', "sustained work"),
    ],
    ids=["no median", "unknown phone", "no tool", "tool not there", "no tflite", "sustained"],
)
def test_what_cannot_be_timed_is_one_line(bed: Bed, says: str, device: str, profile: str, why: str) -> None:
    with pytest.raises(Unmeasurable, match=why):
        bed.judged(says, "p50_ms=34", device=device, profile=profile)
    assert not (bed.folder / "retort").exists()


@NO_ADB
def test_androids_own_emulator_is_no_phone(bed: Bed) -> None:
    properties = {**PROPERTIES, "ro.boot.qemu": "1"}
    (bed.folder / "bin" / "getprop").write_text(getprop(properties))
    target = bed.judged(PERF_TEST, "agreement=20", "p50_ms=34")
    assert outcomes(target) == {"agreement": "PASS", "p50_ms": "NOT MEASURED"}
    assert "emulated" in target["reason"]


@NO_ADB
def test_a_second_user_waits_for_the_first(bed: Bed) -> None:
    (bed.folder / "retort").mkdir()
    with pytest.raises(
        Unmeasurable, match="another run is using the phone; if none is: adb -s FAKE-0001 shell rm"
    ):
        bed.judged(PERF_TEST, "p50_ms=34")
    assert (bed.folder / "retort").exists(), "it is the other's"


def test_without_adb_it_says_so(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(bed.folder))
    with pytest.raises(Unmeasurable, match="no adb here; apt-get install adb"):
        bed.judged(PERF_TEST, "p50_ms=34")


def tool(name: str) -> PhoneTool:
    found = backend(name).phone
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "says", "seconds"),
    [
        ("litert", LITERT, 0.0331),
        ("onnxruntime", PERF_TEST, 0.0331),
        ("onnxruntime", "P50 Latency is 0.0587108 sec\n", 0.0587108),
        ("litert", "count=50 first=3 curr=3 min=3 max=4 avg=3.2e+06 std=4 p5=3 median=2.5e+06 p95=4", 2.5),
    ],
)
def test_the_median_is_found_in_what_a_tool_prints(name: str, says: str, seconds: float) -> None:
    assert tool(name).seconds(says) == pytest.approx(seconds)


def test_an_older_tool_that_prints_a_mean_alone_is_not_believed() -> None:
    assert (
        tool("litert").seconds("count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450")
        is None
    )


@pytest.mark.parametrize("name", ["adb://", "adb://-s", "adb://a b", "adb://x;rm"])
def test_what_is_no_serial_number_is_refused(name: str) -> None:
    with pytest.raises(Refusal, match="no serial number behind adb://"):
        check_device(name)


def test_android_is_two_targets() -> None:
    assert [one.name for one in targets_of("cpu,android,android-ort")] == [
        "cpu",
        "android-litert",
        "android-ort",
    ]


def test_where_one_target_is_wanted_android_is_refused() -> None:
    with pytest.raises(
        Refusal, match="android is android-litert and android-ort; here one of them is wanted"
    ):
        read_profile("android")


def test_what_is_not_timed_is_neither_compared_in_time_nor_locked(bed: Bed) -> None:
    given = Given(bed.model, bed.photos, read_profile("android-ort"))
    rows = compare(bed.model, given)
    assert "not timed: this machine answered" in rows[0] and not any("latency" in row for row in rows)
    assert any(row.startswith("accuracy") for row in rows)
    with pytest.raises(Unmeasurable, match="lock: this machine answered in the device's place"):
        lock(given, bed.model.with_name("retort.lock"))


def test_without_a_device_this_machine_answers_untimed(bed: Bed) -> None:
    given = Given(bed.model, bed.photos, read_profile("android-ort"))
    table = gate(given, read_budgets(["agreement=20", "p50_ms=34"]), bed.folder / "out")
    assert table["status"] == UNDECIDED
    assert outcomes(table["targets"][0]) == {"agreement": "PASS", "p50_ms": "NOT MEASURED"}
    assert "this machine answered in the device's place" in table["targets"][0]["reason"]
    assert is_ort(str(bed.folder / "out" / "android-ort" / "candidate.ort"))
    listed = (bed.folder / "out" / "android-ort" / "candidate.required_operators.config").read_text()
    assert "Gemm" in listed and str(bed.folder) not in listed


@pytest.mark.parametrize(("form", "floats"), [("none", True), ("s8", False)])
def test_on_arm_no_relu_holds_a_convolution_in_float(form: str, floats: bool, tmp_path: Path) -> None:
    onnx.save(regridded(qdq.network(["relu", "relu-add", "conv"], 1), form), tmp_path / "model.onnx")
    names = [
        name for name in on_arm(tmp_path / "model.onnx")["float_operators"] if not name.startswith("gemm")
    ]
    assert bool(names) == floats
