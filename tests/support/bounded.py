"""A folder decoded and shown for an epoch in less memory than its pixels take: ``bounded.py PHOTOS OUT SPARE_MB``."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import torch

from pipeline.data.batches import Epoch, Pixels, training_batches
from pipeline.data.decoded import TRAIN, read
from pipeline.engine.job import Job
from pipeline.recipe.data import Data
from pipeline.stages import decode
from support import tiny

SIZE = 128


def main(photos: Path, out: Path, spare: int) -> None:
    torch.set_num_threads(1)
    settings = Data(folder=photos, size=SIZE).model_dump(mode="json")
    lines = Path("/proc/self/status").read_text().splitlines()
    (used,) = (line.split()[1] for line in lines if line.startswith("VmData"))
    limit = 1024 * int(used) + spare * 1_000_000
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    decode.run(Job(settings, {}, {"folder": photos}, out, out))
    data = read(out)
    asked = tiny.training(batch=16, cutout=16, mixup=1.0)
    shown = sum(
        len(batch.labels)
        for batch in training_batches(Pixels(data), data.part(TRAIN), asked.batch, asked, Epoch(0, 0, 0))
    )
    print(shown, data.images.nbytes)
    try:
        np.array(data.images)
    except MemoryError:
        print("the limit is one")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
