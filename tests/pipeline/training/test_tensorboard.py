"""A training's curves: written where a folder is named, and read back by TensorBoard's own reader."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is torch's")

from pipeline.schemes.supervised import Supervised
from pipeline.training import loop
from pipeline.training.tensorboard import curves
from support import tiny
from targets.errors import Unmeasurable


def test_every_epoch_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="not installed; pip install 'retort[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data = tiny.write_set(tmp_path / "set")
    scheme, runs = Supervised(tiny.model(seed=1), tiny.labels(0.0)), str(tmp_path / "runs")
    history = loop.fit(scheme, data, tiny.training(), tmp_path, "here", runs)
    read = EventAccumulator(str(tmp_path / "runs" / "here"))
    read.Reload()
    assert [event.step for event in read.Scalars("loss")] == [0, 1, 2]
    assert [event.value for event in read.Scalars("loss")] == pytest.approx(history.loss)
    assert [event.value for event in read.Scalars("validation")] == pytest.approx(history.validation)
    assert all(event.value > 0 for event in read.Scalars("images per second"))


def test_without_a_folder_nothing_is_imported_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with curves("here", "") as draw:
        draw(0, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_it_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(Unmeasurable, match=r"here: .*pip install 'retort\[tensorboard\]'"),
        curves("here", str(tmp_path)),
    ):
        pass
