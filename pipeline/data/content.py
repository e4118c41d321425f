"""The content of a folder of images, as a digest: of the images that are read, in their order, with their classes.

Reading every image again at each start would take minutes, so digests are kept with what the file system says of the
file. A change of content changes a file's time of change, which no program can set back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.data.catalogue import folder
from pipeline.engine.store import digest, digest_file, write_json

KNOWN = "image-digests.json"  # in the store


def folder_digest(root: Path, known: Path) -> str:
    """Equal for equal images with equal classes and splits, wherever the folder lies. Raises Refusal."""
    found = folder(root)
    assert found.names is not None, "a folder's images have names"
    contents = digests([Path(name) for name in found.names], known)
    test = found.test.tolist() if found.test is not None else None
    return digest([found.classes, found.labels.tolist(), test, contents])


def digests(paths: Sequence[Path], known: Path) -> list[str]:
    """The digest of each file; those of unchanged files come from ``known``."""
    before: dict[str, list[object]] = read_known(known)
    after, real_paths = {}, [path.resolve() for path in paths]
    for real in real_paths:
        status = real.stat()
        seen = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        kept = before.get(str(real))
        after[str(real)] = kept if kept and kept[1:] == seen else [digest_file(real), *seen]
    if any(before.get(name) != row for name, row in after.items()):
        known.parent.mkdir(parents=True, exist_ok=True)
        write_json(known, {**before, **after})
    return [str(after[str(real)][0]) for real in real_paths]


def read_known(known: Path) -> dict[str, list[object]]:
    try:
        found = json.loads(known.read_text())
    except (OSError, ValueError):
        return {}  # there is none yet, or a broken one: all files are read
    return found if isinstance(found, dict) else {}
