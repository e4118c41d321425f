"""A file that was named is a regular one: of a pipe or a device, reading may never end."""

from __future__ import annotations

from pathlib import Path

from targets.errors import Refusal


def regular_file(path: Path) -> Path:
    """The path itself. Raises Refusal where something else than a regular file, or a link to one, lies there."""
    try:
        if path.exists() and not path.is_file():
            raise Refusal(f"{path}: no regular file but a folder, a pipe or a device; give a file")
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror}") from None
    return path
