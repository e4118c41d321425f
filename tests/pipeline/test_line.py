"""What a deployment hands on to where its targets are proved."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import line
from pipeline.engine.store import Store
from targets.spec.profile import targets_of


@pytest.mark.parametrize("accept", [False, True])
def test_device_baseline_and_what_is_accepted_reach_each_target(
    accept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETORT_CACHE", str(tmp_path / "cache"))
    proved: list[tuple[Any, ...]] = []
    monkeypatch.setattr(line, "bundle", lambda *given: SimpleNamespace(profile=given[3]))
    monkeypatch.setattr(line, "prove", lambda one, *given: proved.append((one.profile.name, *given)))
    monkeypatch.setattr(line, "report_of", lambda bundles, proofs: {"targets": len(bundles)})
    monkeypatch.setattr(line, "write_report", lambda table, out: None)
    names, out, baseline = "cpu,openvino", tmp_path / "out", tmp_path / "retort.lock"
    shop = line.Workshop(Store(tmp_path / "store"), lambda text: None)
    table = line.deploy("digits", names, "local", out, shop, baseline, accept)
    assert table == {"targets": 2}
    wanted = [(one.name, "local", out / one.name, baseline, accept) for one in targets_of(names)]
    assert proved == wanted
