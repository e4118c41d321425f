"""The labels of a set of images before any training: where they come from, and what they must be.

Apart from ``Task``, as a set is decoded without torch, and stays decoded whatever torch's version.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.catalogue import Images
from targets.errors import Refusal


class LabelSet(ABC):
    """What ``decode`` must know of a task."""

    def folder(self, root: Path) -> Images:
        """The images and labels of a folder. Raises Refusal."""
        raise Refusal(f"{root}: images for this task are not read from a folder; give data.factory")

    @abstractmethod
    def check(self, source: Images) -> None:
        """Raises Refusal for labels that are not what the task wants."""

    def groups(self, source: Images) -> NDArray[np.int64]:
        """(N,): of each group of images every split gets the same share."""
        return np.zeros(len(source.labels), np.int64)
