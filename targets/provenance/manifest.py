"""manifest.json: the SHA-256 and the size of each file of a folder, so that a changed one is found.

It is written last and whole. A folder that it fits has each file that it names, unchanged, and no other; links, which
could change what is read, are refused. A signature of it (targets.provenance.signature) is a signature of the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from targets.errors import Refusal, explain
from targets.regular_file import regular_file
from targets.runner.files import atomic_write

MANIFEST = "manifest.json"
SIGNATURE = f"{MANIFEST}.sig"
FORMAT: Literal["retort manifest 1"] = "retort manifest 1"
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Entry(BaseModel):
    """A file's content: its SHA-256 in hexadecimal digits, its size in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Digest
    size: int = Field(ge=0)


class Manifest(BaseModel):
    """The files of a folder by their paths from it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["retort manifest 1"] = FORMAT
    files: dict[str, Entry]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry(path: Path) -> Entry:
    return Entry(sha256=sha256(path), size=path.stat().st_size)


def contents(folder: Path) -> Iterator[str]:
    """The path of each file below a folder, but for its manifest and any signature. Raises Refusal for a link."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                raise Refusal(f"{path}: a link; a folder with a manifest has none, put the file itself there")
        for name in files:
            path = Path(place, name)
            if name != SIGNATURE and path != folder / MANIFEST:
                yield regular_file(path).relative_to(folder).as_posix()


def write_manifest(folder: Path) -> None:
    """Of all that lies in a folder now; a signature of what lay there before goes."""
    (folder / SIGNATURE).unlink(missing_ok=True)
    found = Manifest(files={name: entry(folder / name) for name in sorted(contents(folder))})
    with atomic_write(folder / MANIFEST) as file:
        file.write((json.dumps(found.model_dump(), indent=1) + "\n").encode())


def read_manifest(folder: Path) -> Manifest:
    """Raises Refusal where there is none, or none that can be read."""
    path = folder / MANIFEST
    if path.is_symlink():
        raise Refusal(f"{path}: a link; a manifest is a file of its folder")
    try:
        return Manifest.model_validate_json(regular_file(path).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise Refusal(
            f"{folder}: it has no {MANIFEST}, so nothing says what was made; make it again"
        ) from None
    except ValidationError as error:
        raise Refusal(f"{path}: not a manifest: {explain(error, Manifest)}; make the folder again") from None


def verify(folder: Path) -> Manifest:
    """The manifest of a folder that it fits. Raises Refusal with the first file that it does not."""
    manifest = read_manifest(folder)
    there = set(contents(folder))
    for name in sorted(there - set(manifest.files)):
        raise Refusal(f"{folder / name}: not in {MANIFEST}: it was added since; move it away")
    for name in sorted(manifest.files):
        if name not in there:
            raise Refusal(f"{folder / name}: missing, and in {MANIFEST}; fetch the folder again")
        check(folder / name, manifest.files[name])
    return manifest


def check(path: Path, known: Entry) -> None:
    if path.stat().st_size != known.size or sha256(path) != known.sha256:
        raise Refusal(f"{path}: changed since its {MANIFEST} was written; fetch it again")


def verify_listed(path: Path) -> None:
    """A single file of a folder with a manifest. Raises Refusal unless it is there and as it is listed."""
    known = read_manifest(path.parent).files.get(path.name)
    if known is None:
        raise Refusal(f"{path}: not in the {MANIFEST} beside it; move the file elsewhere")
    if path.is_symlink():
        raise Refusal(f"{path}: a link, and the {MANIFEST} beside it lists a file; give the file itself")
    if not path.is_file():
        raise Refusal(f"{path}: missing, and in {MANIFEST}; fetch the folder again")
    check(path, known)


def verify_file(path: Path) -> None:
    """A single file against the manifest beside it, where one lies there. Raises Refusal if it is not as listed.

    Other programs have files of this name too; theirs say nothing here.
    """
    beside = path.parent / MANIFEST
    if not beside.is_file() or FORMAT.encode() not in beside.read_bytes():
        return
    verify_listed(path)
