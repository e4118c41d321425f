"""Content-addressed artifacts: each a folder whose name is the digest of all that made it.

A folder under ``objects/`` is whole or absent: it is filled under ``work/`` and renamed at the end, so a
process killed at any moment leaves either nothing or a work folder from which its successor goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from targets.errors import Refusal
from targets.provenance.manifest import verify, verify_listed
from targets.runner.files import atomic_write, cache_folder

DIGEST_CHARS = 20
KEY = re.compile(rf"[a-z]+-[0-9a-f]{{{DIGEST_CHARS}}}")


def digest(value: Any) -> str:
    """Digest of a JSON-able value; equal values give equal digests whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARS]


def digest_file(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_CHARS]


def write_json(path: Path, value: Any) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=1, sort_keys=True, default=str) + "\n").encode())


def user_key() -> bytes:
    """32 random bytes of this user's, made when first asked for."""
    path = Path(cache_folder()) / "store-key"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=path.parent) as file:  # for its user's eyes alone
            file.write(os.urandom(32))
            file.flush()
            with suppress(FileExistsError):  # another was faster
                os.link(file.name, path)
    return path.read_bytes()


@dataclass(frozen=True)
class Workplace:
    """Where a stage works: ``out`` becomes the artifact, ``scratch`` survives a kill and is then dropped."""

    out: Path
    scratch: Path


class Store:
    """A folder of artifacts, safe for several runs at once."""

    def __init__(self, root: Path, trusted: bool = False) -> None:
        """``trusted``: also where another made it, as the user says."""
        self.root, self.trusted = root, trusted
        self.objects = root / "objects"
        self.work = root / "work"
        self.seen: set[str] = set()  # the artifacts that this run has found unchanged

    def path(self, key: str) -> Path:
        return self.objects / key

    def has(self, key: str) -> bool:
        return self.path(key).is_dir()

    def file(self, key: str, name: str) -> Path:
        """A file of an artifact, as its stage left it. Raises Refusal for one that was changed since."""
        with self.unchanged(key):
            verify_listed(self.path(key) / name)
        return self.path(key) / name

    def whole(self, key: str) -> Path:
        """The folder of an artifact, all of it as its stage left it. Raises Refusal."""
        if key not in self.seen:
            with self.unchanged(key):
                verify(self.path(key))
            self.seen.add(key)
        return self.path(key)

    @contextmanager
    def unchanged(self, key: str) -> Iterator[None]:
        try:
            yield
        except Refusal as why:
            raise Refusal(f"{why}; it is in a store: remove {self.path(key)}, and it is made again") from None

    @contextmanager
    def make(self, key: str, waiting: Any = None) -> Iterator[Workplace | None]:
        """Hold the right to make ``key``; yields None when another run has made it meanwhile.

        ``waiting()`` is called once if somebody else is making it now. The lock goes with its process,
        also with one that is killed.
        """
        self.objects.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(exist_ok=True)
        lock = FileLock(self.work / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waiting is not None:
                waiting()
            lock.acquire()
        try:
            if self.has(key):
                yield None
                return
            place = Workplace(self.work / key / "out", self.work / key / "scratch")
            shutil.rmtree(place.out, ignore_errors=True)
            place.out.mkdir(parents=True)
            place.scratch.mkdir(exist_ok=True)
            yield place
            place.out.rename(self.path(key))
            shutil.rmtree(self.work / key)
        finally:
            lock.release()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While a run needs what is in the store; several runs may. The lock goes with its process."""
        with self.locked(fcntl.LOCK_SH):
            self.claim()
            yield

    def claim(self) -> None:
        """See that this user made the store: what lies in it names code that runs. Raises Refusal.

        ``owner`` says so: a code of the folder's inode under a key that lies in the user's cache and nowhere else. A
        store that was copied, or that came with a repository, has none that fits.
        """
        full, owner = self.objects.exists() or self.work.exists(), self.root / "owner"
        code = hmac.new(user_key(), str(self.root.stat().st_ino).encode(), "sha256").hexdigest()
        if owner.is_file() and hmac.compare_digest(owner.read_bytes(), code.encode()):
            return
        if full and not self.trusted:
            raise Refusal(
                f"{self.root}: you did not make this store here (it was copied, or came with other files), and"
                " what is in it can name code that runs; remove it, or say --trust-store once"
            )
        with atomic_write(owner) as file:
            file.write(code.encode())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While something is dropped. Raises Refusal where a run is using the store."""
        with self.locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield

    @contextmanager
    def locked(self, how: int) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "in-use.lock").open("ab") as file:
            try:
                fcntl.flock(file, how)
            except BlockingIOError:
                raise Refusal(
                    f"{self.root}: a run is using this store; try again when it has ended"
                ) from None
            yield

    def keep_only(self, keys: set[str]) -> list[str]:
        """Drop every artifact and unfinished work that is not in ``keys`` nor in the making; returns what went.

        Folders whose names are no keys were not made by a store and stay.
        """
        gone = []
        for folder in (self.objects, self.work):
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                if path.is_dir() and KEY.fullmatch(path.name) and path.name not in keys:
                    try:
                        with FileLock(self.work / f"{path.name}.lock", timeout=0):
                            # Renamed first: an artifact is whole or absent, also to whoever is killed here.
                            doomed = self.work / f".{path.name}.gone"
                            path.rename(doomed)
                            shutil.rmtree(doomed)
                        gone.append(path.name)
                    except Timeout:
                        continue  # another run is making it
        return gone
