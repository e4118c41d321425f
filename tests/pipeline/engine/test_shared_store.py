"""Who may use a store, and when: runs together, gc alone, and nobody what another made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.engine.store import Store, digest
from targets.errors import Refusal

OLD = f"teach-{digest('old')}"


def test_nothing_is_dropped_while_a_run_uses_the_store(tmp_path: Path) -> None:
    """Runs share a store; who drops has it alone, and is refused at once, not made to wait."""
    store = Store(tmp_path)
    with store.in_use(), Store(tmp_path).in_use():
        with store.make(OLD):
            pass
        with pytest.raises(Refusal, match="a run is using this store"), store.alone():
            store.keep_only(set())
        assert store.has(OLD)
    with store.alone():
        assert store.keep_only(set()) == [OLD]


def test_a_store_that_came_from_elsewhere_is_used_only_where_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner is told by a key in the user's cache: a copy, another user's and one without any are refused."""
    monkeypatch.setenv("RETORT_CACHE", str(tmp_path / "cache"))
    mine = Store(tmp_path / "mine")
    with mine.in_use(), mine.make(OLD):
        pass
    assert (tmp_path / "cache" / "retort" / "store-key").stat().st_mode & 0o77 == 0
    mine.root.rename(tmp_path / "moved")
    with Store(tmp_path / "moved").in_use():
        pass
    shutil.copytree(tmp_path / "moved", tmp_path / "copied")
    copied = Store(tmp_path / "copied")
    with pytest.raises(Refusal, match="you did not make this store here"), copied.in_use():
        pass
    with Store(copied.root, trusted=True).in_use():
        pass
    with copied.in_use():
        pass
    monkeypatch.setenv("RETORT_CACHE", str(tmp_path / "another user's"))
    with pytest.raises(Refusal, match="--trust-store"), copied.in_use():
        pass
