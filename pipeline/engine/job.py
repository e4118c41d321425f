"""What a room is given to do its work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Of the environment, for every room that trains: how many processes on how many machines that meet where, and a
# folder for TensorBoard.
PROCESSES, NODES, RENDEZVOUS = "RETORT_PROCESSES", "RETORT_NODES", "RETORT_RENDEZVOUS"
CURVES = "RETORT_TENSORBOARD"


@dataclass(frozen=True)
class Job:
    """What a room gets: settings, the folders of its parents, and where to write."""

    settings: dict[str, Any]
    parents: dict[str, Path]
    inputs: dict[str, Path]
    out: Path
    scratch: Path
