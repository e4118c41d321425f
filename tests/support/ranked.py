"""A training for torchrun to start, or one process: ``ranked.py FOLDER``; may kill a rank once, as ``die`` says."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.compute import distributed
from pipeline.data.decoded import Decoded
from pipeline.models.tapped_model import Model
from pipeline.recipe.schema import Distill
from pipeline.schemes.base import Scheme
from pipeline.schemes.offline import offline
from pipeline.schemes.supervised import Supervised
from pipeline.training import loop
from support import tiny


def without_statistics() -> Model:
    """A network that looks at each image by itself: no batch-norm."""
    torch.manual_seed(5)
    layers = [nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return Model(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 3)), (0.5,) * 3, (0.25,) * 3, ("1",))


def distilled(data: Decoded, replay: int, folder: Path) -> Scheme:
    student, recipe = tiny.model(seed=1), Distill.model_validate({"loss": [{"name": "kd"}], "replay": replay})
    return offline(student, student, [tiny.model(tiny.WIDE, seed=2)], data, recipe, "distill", folder)


def scheme(wanted: dict[str, Any], data: Decoded, folder: Path) -> Scheme:
    if wanted.get("replay"):
        plain = distilled(data, wanted["replay"], folder)
    else:
        plain = Supervised(tiny.model(seed=1) if wanted.get("statistics") else without_statistics(), 0.0)

    def before(number: int) -> float:
        died = folder / "died"
        if number == wanted.get("die") and distributed.rank() == 1 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 1.0

    return tiny.Watched(plain, before)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    wanted = json.loads((folder / "wanted.json").read_text())
    data = tiny.write_set(folder / f"set {os.environ.get('RANK', '0')}", (32, 12, 6))
    made = scheme(wanted, data, folder)
    settings = tiny.training(epochs=wanted["epochs"], replay=wanted.get("replay", 0))
    history = loop.fit(made, data, settings, folder, "here")
    state = made.players["student"].network.state_dict()
    torch.save({"state": state, "history": vars(history)}, folder / f"rank {distributed.rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
