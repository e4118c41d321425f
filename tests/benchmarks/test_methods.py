"""The comparison of methods: its figures against scipy's, its page, a small run that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch", reason="methods are trained with torch")

from typer.testing import CliRunner

from benchmarks import methods, methods_doc
from benchmarks.evidence import RESULTS
from benchmarks.methods_table import difference, markdown, plot, said
from pipeline.cli.main import app
from pipeline.losses import LOSSES


def test_a_difference_is_student_s_paired_interval() -> None:
    ours, theirs = {0: 71.0, 1: 69.5, 2: 70.5, 3: 72.0}, {1: 69.0, 2: 68.5, 3: 70.0, 9: 1.0}
    found = difference(ours, theirs)
    expected = stats.ttest_rel([69.5, 70.5, 72.0], [69.0, 68.5, 70.0]).confidence_interval(0.95)
    assert found == pytest.approx((1.5, expected.low, expected.high))
    assert difference(ours, {0: 1.0}) is None


def test_a_verdict_is_only_where_the_whole_interval_is() -> None:
    words = [said(found)[1] for found in ((1.0, 0.1, 1.9), (-1.0, -1.9, -0.1), (1.0, -0.1, 2.1), None)]
    assert words == ["better", "worse", "no power to decide", ""]


def test_the_page_has_every_method_as_the_catalogue_has_it() -> None:
    text = methods_doc.PAGE.read_text(encoding="utf-8")
    assert text == methods_doc.page(text, methods_doc.table(RESULTS / "methods.json"))
    assert list(methods_doc.WHEN) == list(LOSSES)
    picture = methods_doc.PAGE.with_suffix(".svg").read_text(encoding="utf-8")
    assert [name for name in LOSSES if name not in picture] == []


def test_the_list_has_a_line_for_each_method() -> None:
    lines = CliRunner().invoke(app, ["methods"]).output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(LOSSES)


def test_the_list_prints_a_method_in_full() -> None:
    text = CliRunner().invoke(app, ["methods", "dkd"]).output
    assert "TCKD = KL(" in text and "beta: 'float' = 8.0" in text and "arXiv 2203.08679" in text


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Images whose shade tells the class."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 30), ("test", 12)):
        labels = np.arange(count) % 3
        noisy = 60 * labels[:, None, None, None] + generator.integers(0, 90, (count, 32, 32, 3))
        arrays |= {f"x_{part}": noisy.astype(np.uint8), f"y_{part}": labels}
    np.savez(tmp_path / "pack.npz", **arrays)
    return tmp_path / "pack.npz"


def run(pack: Path, *names: str) -> dict[str, Any]:
    folder = pack.parent
    methods.main(
        data=[pack],
        pair="resnet14:resnet8",
        method=list(names),
        seed=[0, 1],
        classes=3,
        images=6,
        epochs=1,
        teacher_epochs=1,
        batch=6,
        lr=0.05,
        schedule="cosine",
        threads=1,
        work=folder / "work",
        out=folder / "out",
    )
    return json.loads((folder / "out" / "methods.json").read_text())  # type: ignore[no-any-return]


def test_a_run_goes_on_where_it_was_and_tells_what_failed(
    pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(pack, "sp")
    assert {(row["method"], row["seed"]) for row in first["rows"]} == {
        (name, seed) for name in ("student alone", "kd", "sp") for seed in (0, 1)
    }
    monkeypatch.setitem(methods.USED, "at", {"loss": [{"name": "fitnet", "weight": 1.0, "stage": 7}]})
    second = run(pack, "sp", "at")
    assert [row for row in second["rows"] if row["method"] != "at"] == first["rows"]
    text = "\n".join(markdown(second))
    assert "Failed: at, seed 0: " in text and "stage 7 is asked for" in text
    assert "<svg" in plot(second)
    assert text.strip() in capsys.readouterr().out
