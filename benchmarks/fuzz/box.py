"""A case: a command, and the folder that it is given."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

JUDGED = frozenset({0, 1, 2, 3})  # exit statuses of what judges


@dataclass(frozen=True)
class Case:
    """A command in its box; ``results`` are the device's; ``sealed``: what lies under a digest was changed."""

    words: tuple[str, ...]
    results: str = ""
    sealed: bool = False
    statuses: frozenset[int] = JUDGED


@dataclass(frozen=True)
class Box:
    """A folder of its own for a case, filled from the corpus."""

    corpus: Path
    folder: Path
    random: Random
    taken: list[str] = field(default_factory=list)

    def take(self, *names: str) -> None:
        for name in names:
            source = self.corpus / name
            if source.is_dir():
                shutil.copytree(source, self.folder / name)
            else:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, self.folder / name)

    def rewrite(self, name: str, how: Callable[[bytes, Random], bytes]) -> None:
        path = self.folder / name
        path.write_bytes(how(path.read_bytes(), self.random))

    def one_of(self, *words: str) -> str:
        return self.random.choice(words)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def differs(self, name: str, but: str = "") -> bool:
        """Whether a folder holds other than the corpus has there, one file of it aside."""
        return contents(self.folder / name, but) != contents(self.corpus / name, but)


def contents(path: Path, but: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
        name = str(one.relative_to(path))
        if name != but:
            found[name] = one.readlink() if one.is_symlink() else one.is_file() and one.read_bytes()
    return found
