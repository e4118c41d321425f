"""Processes as Linux's process table has them: what runs below another, and whether it still does."""

from __future__ import annotations

from pathlib import Path


def below(parent: int, word: str) -> int | None:
    """The number of a child of a process that has a word among its arguments; None where there is none."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
            words = (path.parent / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile
        if int(fields[1]) == parent and word.encode() in words:
            return int(path.parent.name)
    return None


def runs(process: int) -> bool:
    """Whether it is still at work: what has ended and waits to be collected is not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
