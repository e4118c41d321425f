"""retort.lock: which artifact was accepted, by digest, and what it showed; small enough for git.

The artifact itself is found again by its digest: as the file that the lock names while that is unchanged, else among
the objects of the lock's git repository, so that a change is judged against what it changes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any, Literal

import onnx
from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from targets.errors import Refusal, explain
from targets.onnx_file import external_files
from targets.regular_file import regular_file
from targets.runner.files import atomic_write

SUFFIX = ".lock"


class Content(BaseModel):
    """A file's bytes, by digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    blob: str = Field(pattern="^[0-9a-f]{40}$", description="what git calls the file's bytes")

    @classmethod
    def of(cls, data: bytes) -> Content:
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
        return cls(sha256=hashlib.sha256(data).hexdigest(), blob=blob.hexdigest())

    def fits(self, path: Path) -> bool:
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256


class Lock(Content):
    """``figures`` are for people to read in a diff: what is judged is timed anew beside the accepted file."""

    version: Literal[1] = 1
    model: str = Field(description="the file, from the lock's folder")
    data: dict[str, Content] = Field({}, description="files that hold tensors of it, from the file's folder")
    figures: dict[str, Any] = {}
    measured: dict[str, Any] = {}


def lock_of(model: Path, where: Path) -> Lock:
    """The lock of a file as it is, still without figures; ``where`` the lock will lie."""
    try:
        own = Content.of(regular_file(model).read_bytes())
        data = {name: Content.of(regular_file(model.parent / name).read_bytes()) for name in beside(model)}
    except OSError as error:
        raise Refusal(f"{model}: {error.strerror}") from None
    try:
        name = model.resolve().relative_to(where.resolve().parent)
    except ValueError:
        raise Refusal(f"{where}: {model} lies outside its folder; put the lock beside the model") from None
    return Lock(model=name.as_posix(), data=data, **own.model_dump())


def beside(model: Path) -> list[str]:
    """The files that hold tensors of an ONNX file; of what is none, which is refused when it is loaded, none."""
    try:
        return external_files(onnx.load(model, load_external_data=False))
    except DecodeError:
        return []


def write_lock(lock: Lock, path: Path) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(lock.model_dump(), indent=1) + "\n").encode())


def read_lock(path: Path) -> Lock:
    """Raises Refusal for what is no lock."""
    try:
        return Lock.model_validate_json(regular_file(path).read_bytes())
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file; make it: retort lock MODEL --images PHOTOS") from None
    except ValidationError as error:
        raise Refusal(f"{path}: not a lock: {explain(error, Lock)}; make it anew: retort lock") from None


def accepted(path: Path, work: Path) -> Path:
    """The accepted file of a lock, with the digests that the lock names. Raises Refusal where it is not to be had."""
    lock = read_lock(path)
    file = path.parent / lock.model
    for name in lock.data:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise Refusal(
                f"{path}: not a lock: '{name}' lies outside the model's folder; make it anew: retort lock"
            )
    if lock.fits(file) and all(known.fits(file.parent / name) for name, known in lock.data.items()):
        return file
    kept = work / "accepted" / file.name
    for name, known in {file.name: lock, **lock.data}.items():
        (kept.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (kept.parent / name).write_bytes(content(known, file.parent / name, path))
    return kept


def content(known: Content, file: Path, lock: Path) -> bytes:
    """The bytes with a digest: the file's, else those that git keeps for the lock's folder. Raises Refusal."""
    if known.fits(file):
        return file.read_bytes()
    command = ["git", "-C", str(lock.resolve().parent), "cat-file", "blob", known.blob]
    try:
        found = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        raise Refusal(f"{lock}: {file.name} has changed since, and there is no git to ask for it") from None
    if found.returncode or hashlib.sha256(found.stdout).hexdigest() != known.sha256:
        raise Refusal(
            f"{lock}: the accepted {file.name} (sha256 {known.sha256[:12]}…) is neither here nor in git;"
            " fetch the whole history (actions/checkout with fetch-depth: 0), or give the file itself"
        )
    return found.stdout
