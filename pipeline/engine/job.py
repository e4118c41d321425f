"""What a stage is given to do its work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What the names of some inputs begin with: files of a user's code, and files that arguments name.
CODE, ARGUMENT = "code/", "arguments/"


@dataclass(frozen=True)
class Resources:
    """With what a stage works. No result depends on it, so no key does."""

    processes: int = 1  # that train together on this machine, by torchrun
    nodes: int = 1  # machines that train together
    rendezvous: str = ""  # HOST:PORT of one of them, where they meet
    tensorboard: str = ""  # the folder of a training's curves; none is drawn without
    debug: bool = False  # whether an error shows where it comes from


@dataclass(frozen=True)
class Job:
    """Settings, the folders of the parents, the files from outside the store, and where to write."""

    settings: dict[str, Any]
    parents: dict[str, Path]
    inputs: dict[str, Path]
    out: Path
    scratch: Path
    resources: Resources = field(default_factory=Resources)


def code_of(inputs: Mapping[str, Path]) -> dict[str, Path]:
    """The files of a user's code among a stage's inputs, by their paths below the recipe's folder."""
    return {name.removeprefix(CODE): path for name, path in inputs.items() if name.startswith(CODE)}


def code_folder(files: Mapping[str, Path]) -> Path | None:
    """The folder that these paths start from; None where there are no files."""
    for name, path in files.items():
        return path.parents[len(Path(name).parts) - 1]
    return None


def without_files(value: Any, folder: Path) -> tuple[Any, dict[str, Path]]:
    """Arguments in which each string that names a file is replaced by the name of an input; and these inputs.

    Paths start from ``folder``. A word without a dot or a slash is no path, whatever lies there.
    """
    found: dict[str, Path] = {}

    def replaced(part: object) -> object:
        if isinstance(part, dict):
            return {key: replaced(inner) for key, inner in part.items()}
        if isinstance(part, (list, tuple)):
            return [replaced(inner) for inner in part]
        if isinstance(part, str) and ("." in part or "/" in part) and (folder / part).is_file():
            name = f"{ARGUMENT}{len(found)}{Path(part).suffix}"
            found[name] = folder / part
            return name
        return part

    return replaced(value), found


def with_files(value: Any, inputs: Mapping[str, Path]) -> Any:
    """The arguments with the paths of the inputs that stand in for files."""
    if isinstance(value, dict):
        return {key: with_files(inner, inputs) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_files(inner, inputs) for inner in value]
    return str(inputs[value]) if isinstance(value, str) and value.startswith(ARGUMENT) else value
