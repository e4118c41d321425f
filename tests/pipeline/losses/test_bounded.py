"""A folder of any size streams: decoded and trained on in a memory that it would not fit in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import ROOT, SUPPORT

pytest.importorskip("torch", reason="training is torch's")

PATHS = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
CLASSES, IMAGES, SPARE_MB = 2, 3_000, 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
def test_a_folder_larger_than_the_memory(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for label in range(CLASSES):
        folder = tmp_path / "photos" / f"class {label}"
        folder.mkdir(parents=True)
        Image.fromarray(noise).save(folder / "0.png")
        for number in range(
            1, IMAGES // CLASSES
        ):  # one file with many names: quick to make, and read each time
            os.link(folder / "0.png", folder / f"{number}.png")
    (tmp_path / "out").mkdir()
    words = [sys.executable, str(SUPPORT / "bounded.py"), str(tmp_path / "photos"), str(tmp_path / "out")]
    known = {
        **os.environ,
        "PYTHONPATH": PATHS,
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([*words, str(SPARE_MB)], env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    figures, said = done.stdout.splitlines()
    shown, size = map(int, figures.split())
    assert shown >= 0.7 * IMAGES - 16
    assert size > 1.4 * SPARE_MB * 1_000_000
    assert said == "the limit is one"
