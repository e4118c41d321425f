"""Many image files decoded into one array by several processes, a block of images at a time.

A worker holds one image and writes it where its row lies in the file, so memory stays bounded and the bytes are those
of one process. Each block that is written is noted, and a run that was killed goes on with the blocks that are not.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np

from targets.errors import Refusal
from targets.image_folder import SUFFIXES, Decoding, LazyImages, begin_array, check_room, unread
from targets.progress import Bar, say

BLOCK = 64  # images
FEW = 512  # images that one process decodes before others have begun


def decode_files(
    paths: Sequence[Path], decoding: Decoding, path: Path, title: str, processes: int | None = None
) -> None:
    """Write the images of files to an .npy array (N, height, width, channels) of uint8.

    What a killed run of the same files has left at ``path``, with its notes beside it, is gone on with. Raises
    Refusal for the first image that is broken.
    """
    notes = path.with_suffix(".blocks")
    shape = (len(paths), *decoding.shape)
    done = kept_blocks(path, notes, shape)
    check_room(path, (len(paths) - len(done) * BLOCK) * int(np.prod(decoding.shape)))
    starts = [start for start in range(0, len(paths), BLOCK) if start // BLOCK not in done]
    count = workers(len(starts) * BLOCK) if processes is None else processes
    offset = path.stat().st_size - int(np.prod(shape))
    blocks = [(paths[start : start + BLOCK], start) for start in starts]
    before = len(paths) - sum(len(block) for block, _ in blocks)
    with Bar(title, len(paths), before) as bar, notes.open("ab") as written:
        for block, start in in_turn(blocks, decoding, path, offset, count):
            written.write(b"%d\n" % (start // BLOCK))
            written.flush()
            bar.step(by=len(block))
    notes.unlink()


def tell_unread(root: Path, read: Iterable[Path]) -> None:
    """Say what of a folder is not read, with the first of it."""
    found = unread(root, read)
    if found:
        what = f"files and folders that are not read: {len(found)}, such as {found[0].relative_to(root)}"
        say(f"{root}: {what}; images are {' '.join(SUFFIXES)}, in a folder a class")


def workers(images: int) -> int:
    """As many as this process may use processors, where they pay."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return mine if images >= FEW else 1


def kept_blocks(path: Path, notes: Path, shape: Sequence[int]) -> set[int]:
    """The numbers of the blocks that are written already; a new file, of its full length, where there are none."""
    try:
        if np.load(path, mmap_mode="r").shape == tuple(shape):
            return {int(line) for line in notes.read_bytes().split(b"\n")[:-1]}
    except (OSError, ValueError, EOFError):
        pass  # there is none, or one that was not begun
    notes.unlink(missing_ok=True)
    with path.open("wb") as file:
        begin_array(file, tuple(shape))
        file.truncate(file.tell() + int(np.prod(shape)))
    return set()


Block = tuple[Sequence[Path], int]  # files, and the number of the first


def in_turn(
    blocks: Sequence[Block], decoding: Decoding, path: Path, offset: int, processes: int
) -> Iterator[Block]:
    """Each block when it is written, in order."""
    if processes == 1:
        for block, start in blocks:
            write_block(block, start, decoding, path, offset)
            yield block, start
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of torch and BLAS
    pool = ProcessPoolExecutor(processes, context, initializer=follow_parent)
    try:
        todo: list[tuple[Block, Future[None]]] = [
            (one, pool.submit(write_block, *one, decoding, path, offset)) for one in blocks
        ]
        for one, future in todo:
            future.result()
            yield one
    finally:
        pool.shutdown(cancel_futures=True)


def write_block(paths: Sequence[Path], start: int, decoding: Decoding, path: Path, offset: int) -> None:
    """Decode some files into their rows. Written, not mapped: on a full disk a mapping would end the process."""
    length = int(np.prod(decoding.shape))
    with path.open("r+b") as file:
        file.seek(offset + start * length)
        for name, image in zip(paths, LazyImages(list(paths)), strict=True):
            try:
                file.write(decoding(image).tobytes())
            except Refusal as refusal:
                raise Refusal(f"{name}: {refusal}") from None
        file.flush()
        os.fsync(file.fileno())  # before it is noted


def follow_parent() -> None:
    """A worker ends when the process that started it has been killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has one"

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
