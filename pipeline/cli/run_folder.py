"""One folder for all that a run leaves lying about: its own temporary files and those of the processes it starts.

It goes with the run. Of a run that was killed it stays, and the next one removes it: a lock on the folder, which goes
with its process, tells the two apart.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "retort-run-"


class RunFolder:
    """Where temporary files go until ``remove``; processes that are started meanwhile learn it from ``TMPDIR``."""

    def __init__(self) -> None:
        self.before, self.given = tempfile.tempdir, os.environ.get("TMPDIR")
        root = Path(tempfile.gettempdir())
        clear(root)
        self.path, self.lock = locked_folder(root)
        tempfile.tempdir = os.environ["TMPDIR"] = str(self.path)

    def remove(self) -> None:
        tempfile.tempdir = self.before
        if self.given is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = self.given
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def locked_folder(root: Path) -> tuple[Path, int]:
    """A new folder, and the open file that holds its lock; another run may remove it before it is locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        lock = lock_of(path)
        if lock is not None and path.exists():
            return path, lock
        if lock is not None:
            os.close(lock)


def lock_of(path: Path) -> int | None:
    """None where another process has it, or the folder is gone or not this user's."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(opened).st_uid == os.getuid():
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return opened
    except OSError:
        pass
    os.close(opened)
    return None


def clear(root: Path) -> None:
    """Remove the folders of this user's runs that were killed."""
    for path in root.glob(f"{PREFIX}*"):
        lock = lock_of(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
