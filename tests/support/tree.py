"""A copy of the project's sources, for tests that change them."""

from __future__ import annotations

import shutil
from pathlib import Path

from support import ROOT


def copy_project(folder: Path) -> Path:
    for package in ("pipeline", "targets"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder
