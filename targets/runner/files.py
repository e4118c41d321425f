"""How a file is written whole, and where what outlives a run is kept; for the runner and for all that imports it."""

from __future__ import annotations

import contextlib
import os
from typing import IO, Iterator


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` when the block ends: a reader sees the old one or the new one, whole.

    It is made anew beside it, under a name that nothing has and through no link, with the rights that the umask
    leaves; where the block raises it is dropped. Its ``name`` is a path that may be opened again.
    """
    part = os.path.join(os.path.dirname(os.fspath(path)), ".%s.part" % os.urandom(8).hex())
    file = open(part, "xb")  # noqa: SIM115 - closed below, before it takes its place
    try:
        with file:
            yield file
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def cache_folder() -> str:
    """``$RETORT_CACHE/retort``, else in the user's cache: ``$XDG_CACHE_HOME/retort`` or ``~/.cache/retort``."""
    home = os.environ.get("RETORT_CACHE") or os.environ.get("XDG_CACHE_HOME")
    return os.path.join(home or os.path.expanduser("~/.cache"), "retort")
