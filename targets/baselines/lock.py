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

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from targets.errors import Refusal, explain
from targets.regular_file import regular_file
from targets.runner.files import atomic_write

SUFFIX = ".lock"


class Lock(BaseModel):
    """``figures`` are for people to read in a diff: what is judged is timed anew beside the accepted file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    model: str = Field(description="the file, from the lock's folder")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    blob: str = Field(pattern="^[0-9a-f]{40}$", description="what git calls the file's bytes")
    figures: dict[str, Any] = {}
    measured: dict[str, Any] = {}


def lock_of(model: Path, where: Path) -> Lock:
    """The lock of a file as it is, still without figures; ``where`` the lock will lie."""
    try:
        data = regular_file(model).read_bytes()
    except OSError as error:
        raise Refusal(f"{model}: {error.strerror}") from None
    try:
        name = model.resolve().relative_to(where.resolve().parent)
    except ValueError:
        raise Refusal(f"{where}: {model} lies outside its folder; put the lock beside the model") from None
    return Lock(
        model=name.as_posix(),
        sha256=hashlib.sha256(data).hexdigest(),
        blob=hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest(),
    )


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
    """The accepted file of a lock, with the digest that the lock names. Raises Refusal where it is not to be had."""
    lock = read_lock(path)
    file = path.parent / lock.model
    if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == lock.sha256:
        return file
    command = ["git", "-C", str(path.resolve().parent), "cat-file", "blob", lock.blob]
    try:
        found = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        raise Refusal(f"{path}: {lock.model} has changed since, and there is no git to ask for it") from None
    if found.returncode or hashlib.sha256(found.stdout).hexdigest() != lock.sha256:
        raise Refusal(
            f"{path}: the accepted {lock.model} (sha256 {lock.sha256[:12]}…) is neither here nor in git;"
            " fetch the whole history (actions/checkout with fetch-depth: 0), or give the file itself"
        )
    kept = work / "accepted.onnx"
    kept.write_bytes(found.stdout)
    return kept
