"""A file that was named is a regular one: of a pipe or a device, reading may never end. Settings are in TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from targets.errors import Refusal


def regular_file(path: Path) -> Path:
    """The path itself. Raises Refusal where something else than a regular file, or a link to one, lies there."""
    try:
        if path.exists() and not path.is_file():
            raise Refusal(f"{path}: no regular file but a folder, a pipe or a device; give a file")
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror}") from None
    return path


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a file. Raises OSError, and ValueError for what is no TOML or has an integer too long to read."""
    try:
        return tomllib.loads(regular_file(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
