"""A bar counts what is done, also where it began in the middle, and says so on a log."""

from __future__ import annotations

import pytest

from targets import progress


def test_steps_add_up_and_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", -1.0)
    with progress.Bar("decode", 10, done=2) as bar:
        bar.step("first", by=3)
        bar.step(by=4)
    assert bar.done == 9
    assert capsys.readouterr().err.splitlines() == ["  decode    5/10 first", "  decode    9/10 first"]
