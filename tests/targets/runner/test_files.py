"""A file is written whole or not at all, and everything that outlives a run is kept in one place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from targets.runner import files
from targets.runner.files import atomic_write, cache_folder


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_takes_its_place_with_the_rights_that_the_umask_leaves(mask: int, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    before = os.umask(mask)
    try:
        with atomic_write(path) as file:
            file.write(b"new")
            assert path.read_bytes() == b"old", "until the block ends"
            assert Path(file.name).parent == tmp_path
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o666 & ~mask
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_raises_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(str(path)) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_link_at_the_temporary_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who guesses the name gains nothing: the file is made anew or not at all."""
    monkeypatch.setattr(files.os, "urandom", bytes)
    (tmp_path / "precious").write_bytes(b"precious")
    link = tmp_path / f".{bytes(8).hex()}.part"
    link.symlink_to(tmp_path / "precious")
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "kept") as file:
        file.write(b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious" and link.is_symlink()
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"RETORT_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a/retort"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/retort"),
        ({"RETORT_CACHE": "", "HOME": "/c"}, "/c/.cache/retort"),
    ],
)
def test_the_cache_lies_where_the_user_says(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RETORT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == folder
