"""A student of ``same`` in the processes that torchrun has started: ``together FOLDER SEED EPOCHS``.

FOLDER has ``set/``, the decoded images, and ``teacher.safetensors``. The first rank prints the accuracy.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from pipeline.compute import distributed
from pipeline.data import decoded

PROCESSES = 2


def torchrun(module: str) -> list[str]:
    """What Python is told to run a module in so many processes of this machine."""
    options = ["--standalone", f"--nproc-per-node={PROCESSES}"]
    return ["-m", "torch.distributed.run", *options, "-m", module]


def start(folder: Path, seed: int, epochs: int) -> float:
    """The accuracy (per cent) of a student trained so; each process has one thread."""
    words = [*torchrun("benchmarks.training.together"), str(folder), str(seed), str(epochs)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(done.stdout.split()[-1])


def main(folder: Path, seed: int, epochs: int) -> None:
    from benchmarks.training.same import TOGETHER, network, student

    torch.set_num_threads(1)
    distributed.join()
    data = decoded.read(folder / "set")
    teacher = network("resnet20", data)
    teacher.load_state_dict(load_file(folder / "teacher.safetensors"))
    accuracy = student(teacher.eval(), data, TOGETHER, seed, epochs)
    if distributed.rank() == 0:
        print(accuracy)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
