"""What a stage left in the store is used as it was left, or refused with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.engine.store import Store
from targets.errors import Refusal
from targets.provenance.manifest import write_manifest

KEY = "export-0123456789abcdef0123"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    folder = tmp_path / "objects" / KEY
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"model")
    (folder / "notes.json").write_bytes(b"{}")
    write_manifest(folder)
    return Store(tmp_path)


def test_what_is_unchanged_is_given(store: Store) -> None:
    assert store.whole(KEY) == store.path(KEY)
    assert store.file(KEY, "model.onnx").read_bytes() == b"model"


@pytest.mark.parametrize("change", ["other", "gone", "link", "no manifest"])
def test_what_was_changed_is_refused_by_name(store: Store, change: str, tmp_path: Path) -> None:
    path = store.path(KEY) / "model.onnx"
    if change == "other":
        path.write_bytes(b"MODEL")
    elif change == "no manifest":
        (store.path(KEY) / "manifest.json").unlink()
    else:
        path.unlink()
    if change == "link":
        (tmp_path / "same").write_bytes(b"model")
        path.symlink_to(tmp_path / "same")
    for ask in (lambda: store.file(KEY, "model.onnx"), lambda: store.whole(KEY)):
        with pytest.raises(Refusal, match=rf"remove .*{KEY}, and it is made again"):
            ask()
    if change != "no manifest":
        assert store.file(KEY, "notes.json").exists(), "the others are as they were"
