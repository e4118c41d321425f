"""Decoding by several processes: the bytes of one process, after a kill too; and no worker is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from targets import decoding as many
from targets.decoding import decode_files
from targets.errors import Refusal
from targets.image_folder import Decoding, save_images

DECODING = Decoding((8, 12), resize=(9, 13))
BLOCKS, LAST = 5, 7  # whole blocks, and the images of the last


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{number:03}.png" for number in range(BLOCKS * many.BLOCK + LAST)]
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return paths


@pytest.fixture(scope="module")
def expected(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("one") / "a.npy"
    save_images(map(Image.open, photos), len(photos), DECODING, path)
    return path.read_bytes()


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_write_what_one_does(
    photos: list[Path], expected: bytes, tmp_path: Path, processes: int
) -> None:
    decode_files(photos, DECODING, tmp_path / "a.npy", "decode", processes)
    assert (tmp_path / "a.npy").read_bytes() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"], "the notes are gone"


# What a killed stage is: its process ends in the middle, whatever its workers do then.
KILLED = """
import os, signal, sys
from pathlib import Path
from targets import decoding
from targets.image_folder import Decoding

class Bar(decoding.Bar):
    def step(self, note="", by=1):
        super().step(note, by)
        if self.done >= 2 * decoding.BLOCK:
            os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    decoding.Bar = Bar
    paths = [Path(line) for line in sys.stdin.read().split("\\n")]
    decoding.decode_files(paths, Decoding((8, 12), resize=(9, 13)), Path(sys.argv[1]), "decode", 2)
"""


def test_a_killed_run_is_gone_on_with(
    photos: list[Path], expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    names = "\n".join(map(str, photos))
    path = tmp_path / "a.npy"
    command = [sys.executable, str(tmp_path / "killed.py"), str(path)]
    # The pipe of its output ends when the last of its workers has ended.
    done = subprocess.run(command, input=names, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    noted = path.with_suffix(".blocks").read_bytes()
    assert noted == b"0\n1\n"
    path.with_suffix(".blocks").write_bytes(noted + b"2")  # a note that was not finished is none
    seen = list[int]()
    real = many.write_block
    monkeypatch.setattr(many, "write_block", lambda *args: (seen.append(args[1]), real(*args))[1])
    decode_files(photos, DECODING, path, "decode", 1)
    assert seen == [many.BLOCK * number for number in range(2, BLOCKS + 1)]
    assert path.read_bytes() == expected


@pytest.mark.parametrize("left", [b"", b"no array", None])
def test_what_is_of_another_run_is_begun_anew(
    photos: list[Path], expected: bytes, tmp_path: Path, left: bytes | None
) -> None:
    path = tmp_path / "a.npy"
    path.with_suffix(".blocks").write_text("0\n1\n")
    if left is None:
        np.save(path, np.zeros((3, 8, 12, 3), np.uint8))
    else:
        path.write_bytes(left)
    decode_files(photos, DECODING, path, "decode", 1)
    assert path.read_bytes() == expected


def test_the_first_broken_image_is_named_by_workers_too(photos: list[Path], tmp_path: Path) -> None:
    broken = [tmp_path / name for name in ("first.png", "second.png")]
    for path in broken:
        path.write_bytes(b"no image")
    paths = [*photos[: many.BLOCK], broken[0], *photos[: many.BLOCK], broken[1]]
    with pytest.raises(Refusal, match=r"first\.png: broken image"):
        decode_files(paths, DECODING, tmp_path / "a.npy", "decode", 2)


def test_few_images_are_decoded_by_one_process() -> None:
    assert many.workers(many.FEW - 1) == 1 and many.workers(many.FEW) == len(os.sched_getaffinity(0))
