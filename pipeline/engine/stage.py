"""A stage: a step of the line with a key that says all that its result depends on.

A key is the digest of the parents' keys, the settings, the content of the files from outside the store, the code that
is reached from the stage's ``run`` and the versions of the packages that this code and the user's use. No path is in
it, so equal recipes in two folders, and on two machines, have equal keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.engine.code_digest import code_digest, versions
from pipeline.engine.job import Resources
from pipeline.engine.process import Work, work
from pipeline.engine.store import Store, digest, digest_file, write_json
from targets.errors import Refusal
from targets.provenance.manifest import write_manifest


@dataclass(frozen=True)
class Input:
    """A file or a folder outside the store; it counts by its content."""

    path: Path
    digest: str
    read: Callable[[Path], str] = field(default=digest_file, compare=False)  # its digest as it is now

    def check(self) -> None:
        """Raises Refusal where it is no longer what the key says."""
        if self.read(self.path) != self.digest:
            raise Refusal(f"{self.path}: it was changed while this run was at work; run again")

    @classmethod
    def of(cls, path: Path) -> Input:
        return cls(path, digest_file(path))


@dataclass(frozen=True)
class Stage:
    """A step of the line, described but not done: ``pipeline.stages.NAME`` does it.

    ``settings`` hold no path. ``uses`` are the entries of catalogues that the settings name; ``packages`` what a
    user's own code imports; ``trains``: several processes may do it together.
    """

    name: str
    settings: Mapping[str, Any]
    parents: Mapping[str, Stage] = field(default_factory=dict)
    inputs: Mapping[str, Input] = field(default_factory=dict)
    uses: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    trains: bool = False

    @cached_property
    def code(self) -> tuple[str, dict[str, str]]:
        """The digest of its code, and the packages that it uses with their versions."""
        own, packages = code_digest(f"pipeline.stages.{self.name}:run", self.uses)
        return own, {**packages, **versions(self.packages)}

    @cached_property
    def key(self) -> str:
        code, packages = self.code
        parts = {
            "settings": self.settings,
            "parents": {name: stage.key for name, stage in self.parents.items()},
            "inputs": {name: given.digest for name, given in self.inputs.items()},
            "code": code,
            "versions": packages,
        }
        return f"{self.name}-{digest(parts)}"


def ensure(
    stage: Stage, store: Store, say: Callable[[str], None], resources: Resources | None = None
) -> Path:
    """Make the stage and all it stands on, unless they are there; returns its folder."""
    if store.has(stage.key):
        return store.path(stage.key)
    parents = {name: ensure(parent, store, say, resources) for name, parent in stage.parents.items()}
    with store.make(stage.key, lambda: say(f"{stage.name:<9} another run is making it; waiting")) as place:
        if place is not None:
            origin = {
                "stage": stage.name,
                "settings": stage.settings,
                "parents": {name: parent.key for name, parent in stage.parents.items()},
                "inputs": {name: given.digest for name, given in stage.inputs.items()},
                "versions": stage.code[1],
            }
            for parent in stage.parents.values():
                store.whole(parent.key)
            for given in stage.inputs.values():
                given.check()
            inputs = {name: given.path for name, given in stage.inputs.items()}
            started = time.monotonic()
            job = Work(stage.name, stage.settings, parents, inputs, place.out, place.scratch, stage.trains)
            work(job, resources or Resources())
            for given in stage.inputs.values():  # what was edited meanwhile may be what was read
                given.check()
            seconds = round(time.monotonic() - started, 1)
            write_json(place.out / "origin.json", {**origin, "seconds": seconds})
            write_manifest(place.out)
            say(f"{stage.name:<9} {seconds:5.1f} s")
    return store.path(stage.key)
