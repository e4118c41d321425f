"""The faults to plant, from the tables in ``planted/``: where, what for what, and which tests must fail.

A table's name is the fault's; ``old`` occurs exactly once in ``file``, and ``new`` takes its place. ``tests`` are the
files or node ids that judge it: those of its own module. ``equivalent`` says why no test can tell it from
the right code.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evidence import ROOT
from pipeline.engine.store import digest
from targets.errors import Refusal

FOLDER = Path(__file__).with_name("planted")


@dataclass(frozen=True)
class Mutant:
    """One fault; ``wrong`` says in a phrase what it does."""

    name: str
    file: str
    old: str
    new: str
    wrong: str
    tests: tuple[str, ...]
    equivalent: str = ""

    @property
    def source(self) -> str:
        return (ROOT / self.file).read_text(encoding="utf-8")

    @property
    def planted(self) -> str:
        """The file's text with the fault in it. Raises Refusal where the place is not there once."""
        count = self.source.count(self.old)
        if count != 1:
            raise Refusal(
                f"mutant {self.name}: {self.old!r} occurs {count} times in {self.file}; name its place anew"
            )
        return self.source.replace(self.old, self.new)

    @property
    def key(self) -> str:
        """Of all that its result depends on and that is looked at: the file with the fault, and the tests."""
        files = sorted({test.partition("::")[0] for test in self.tests})
        texts = [(ROOT / file).read_text(encoding="utf-8") for file in files]
        return digest([self.planted, self.tests, texts])


def mutants() -> dict[str, Mutant]:
    """All of them, by name."""
    found: dict[str, Mutant] = {}
    for path in sorted(FOLDER.glob("*.toml")):
        for name, row in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if name in found:
                raise Refusal(f"{path}: a mutant is called {name} already")
            found[name] = Mutant(name=name, **{**row, "tests": tuple(row["tests"])})
    return found
