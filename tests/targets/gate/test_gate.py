"""The gate on bare files: against a baseline, against the reference network, and its wrong inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from benchmarks.gate.planted import planted
from targets.baselines.reference_network import write_reference
from targets.errors import FAILED, PASSED, UNDECIDED, Refusal
from targets.gate.gate import Given, gate
from targets.limits import read_budgets
from targets.spec.contract import Contract
from targets.spec.profile import Profile

QUICK = Profile(name="quick", about="", backend="onnxruntime", seconds=4.0)


def judged(model: Path, photos: Path, out: Path, *budgets: str, **more: Any) -> dict[str, Any]:
    table = gate(Given(model, photos, QUICK), read_budgets(list(budgets)), out, **more)
    lines = {line["budget"]: line["outcome"] for line in table["targets"][0]["lines"]}
    return {"status": table["status"], **lines}


def test_a_file_against_itself_and_against_one_that_does_more(
    network: Callable[[str], Path], photos: Path, tmp_path: Path
) -> None:
    plain = network("nchw-float32")
    plain = plain.rename(plain.with_name("baseline.onnx"))  # a name that the table knows otherwise
    slow = planted(onnx.load(plain), 60, tmp_path / "slow.onnx")
    budgets = ("slower_than_baseline=50%", "drop_vs_baseline=90", "agreement_vs_baseline=60")
    answers = {"drop_vs_baseline": "PASS", "agreement_vs_baseline": "PASS"}
    found = judged(plain, photos, tmp_path / "a", *budgets, baseline=plain)
    assert found == {"status": PASSED, "slower_than_baseline": "PASS", **answers}
    found = judged(slow, photos, tmp_path / "b", *budgets, baseline=plain)
    assert found == {"status": FAILED, "slower_than_baseline": "FAIL", **answers}
    found = judged(plain, photos, tmp_path / "c", "slower_than_baseline=-20%", baseline=slow)
    assert found == {"status": PASSED, "slower_than_baseline": "PASS"}


def test_without_a_baseline_the_budget_is_not_measured(
    network: Callable[[str], Path], photos: Path, tmp_path: Path
) -> None:
    budgets = ("slower_than_baseline=5", "agreement_vs_baseline=99")
    found = judged(network("nchw-float32"), photos, tmp_path / "a", *budgets)
    missing = {"slower_than_baseline": "NOT MEASURED", "agreement_vs_baseline": "NOT MEASURED"}
    assert found == {"status": UNDECIDED, **missing}


@pytest.mark.parametrize("layout", ["nchw-float32", "nhwc-uint8"])
def test_the_reference_network_is_a_yardstick(
    layout: str, network: Callable[[str], Path], photos: Path, tmp_path: Path
) -> None:
    budgets = ("p50_vs_reference=100", "p99_vs_reference=1000")
    found = judged(network(layout), photos, tmp_path / "a", *budgets)
    assert found == {"status": PASSED, "p50_vs_reference": "PASS", "p99_vs_reference": "PASS"}
    found = judged(network(layout), photos, tmp_path / "b", "p50_vs_reference=0.001")
    assert found == {"status": FAILED, "p50_vs_reference": "FAIL"}


def test_the_reference_network_is_always_the_same(tmp_path: Path) -> None:
    contract = Contract("nchw-float32", (32, 32), ("a", "b", "c"))
    first, second = (write_reference(contract, tmp_path / name) for name in ("1.onnx", "2.onnx"))
    assert first.read_bytes() == second.read_bytes()


def test_wrong_baselines_are_refused(network: Callable[[str], Path], photos: Path, tmp_path: Path) -> None:
    plain = network("nchw-float32")
    with pytest.raises(Refusal, match=r"gone\.onnx: no such file"):
        judged(plain, photos, tmp_path, "slower_than_baseline=5", baseline=tmp_path / "gone.onnx")
    with pytest.raises(Refusal, match=r"--baseline .*bytes\.onnx: it takes other images than"):
        other = write_reference(Contract("nhwc-uint8", (8, 8), ()), tmp_path / "bytes.onnx")
        judged(plain, photos, tmp_path, "slower_than_baseline=5", baseline=other)
    with pytest.raises(Refusal, match=r"slower_than_baseline: .*got 'fast'.*write NAME=NUMBER"):
        read_budgets(["slower_than_baseline=fast"])
    assert read_budgets(["slower_than_baseline=5%"]) == read_budgets(["slower_than_baseline=5"])
