"""The content of a folder of images, as a digest: of the images that are read, in their order, with their classes.

Reading every image again at each start would take minutes, so digests are kept with what the file system says of the
file. A change of content changes a file's time of change, which no program can set back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.data.catalogue import Images, folder
from pipeline.engine.store import digest, digest_file, write_json

KNOWN = "image-digests.json"  # in the store


def folder_digest(root: Path, known: Path) -> str:
    """Equal for equal images with equal classes and splits, wherever the folder lies. Raises Refusal."""
    found = folder(root)
    assert found.names is not None, "a folder's images have names"
    contents = digests([Path(name) for name in found.names], known)
    test = found.test.tolist() if found.test is not None else None
    return digest([found.classes, found.labels.tolist(), test, contents])


def findings(found: Images, root: Path, known: Path) -> Iterator[str]:
    """What a user should know of the images of a folder before they are trained on."""
    assert found.names is not None, "a folder's images have names"
    names = [Path(name) for name in found.names]
    contents = digests(names, known)
    if found.test is None:
        yield from copies(names, contents, root)
        return
    tests = set(np.flatnonzero(found.test).tolist())
    trained = {content for number, content in enumerate(contents) if number not in tests}
    both = [names[number] for number in sorted(tests) if contents[number] in trained]
    if both:
        what = f"test images that lie in train too: {len(both)} of {len(tests)}, such as {both[0].relative_to(root)}"
        yield f"{what}: what they prove is that they were trained on"


def copies(names: Sequence[Path], contents: Sequence[str], root: Path) -> Iterator[str]:
    """Of a folder that is split by chance."""
    first = dict(zip(reversed(contents), reversed(names), strict=True))
    twice = [(name, first[one]) for name, one in zip(names, contents, strict=True) if first[one] != name]
    if twice:
        one, other = (name.relative_to(root) for name in twice[0])
        what = f"images that are copies of others: {len(twice)}, such as {one} of {other}"
        yield f"{what}: a test image may be one that was trained on"


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
    except (OSError, ValueError, RecursionError):
        return {}  # there is none yet, or a broken one: all files are read
    return found if isinstance(found, dict) else {}
