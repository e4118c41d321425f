"""A training, of one process or by torchrun: ``ranked.py FOLDER``; at step ``die`` the last rank is killed once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.compute import distributed
from pipeline.data.decoded import Decoded
from pipeline.models.tapped_model import Model
from pipeline.recipe.schema import Distill
from pipeline.schemes.base import Scheme, Setup
from pipeline.schemes.offline import offline
from pipeline.schemes.supervised import Supervised
from pipeline.training import loop
from support import ROOT, tiny, toys

PATHS = os.pathsep.join([str(ROOT), str(ROOT / "tests")])


def launch(folder: Path, processes: int = 1, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """The training that ``wanted.json`` of a folder describes, in processes of its own."""
    options = ["--standalone", f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
    launcher = ["-m", "torch.distributed.run", *options] if processes > 1 else []
    command = [sys.executable, *launcher, __file__, str(folder)]
    environment = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def write_wanted(folder: Path, **wanted: Any) -> None:
    folder.mkdir()
    (folder / "wanted.json").write_text(json.dumps({"epochs": 1, **wanted}))


def left(folder: Path, processes: int = 1) -> list[dict[str, Any]]:
    """What each rank is left with: the networks of all players, and the history."""
    return [torch.load(folder / f"rank {rank}.pt", weights_only=True) for rank in range(processes)]


def furthest(one: dict[str, Any], other: dict[str, Any]) -> float:
    assert one["state"].keys() == other["state"].keys()
    return max(float((one["state"][name] - other["state"][name]).abs().max()) for name in one["state"])


def without_statistics() -> Model:
    """A network that looks at each image by itself: no batch-norm."""
    torch.manual_seed(5)
    layers = [nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return Model(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 3)), (0.5,) * 3, (0.25,) * 3, ("1",))


def distilled(data: Decoded, replay: int, folder: Path) -> Scheme:
    student, recipe = tiny.model(seed=1), Distill.model_validate({"loss": [{"name": "kd"}], "replay": replay})
    return offline(Setup(student, student, [tiny.model(tiny.WIDE, seed=2)], data, recipe, "distill", folder))


def scheme(wanted: dict[str, Any], data: Decoded, folder: Path) -> Scheme:
    plain: Scheme
    if wanted.get("scheme"):
        plain = toys.SCHEMES[wanted["scheme"]]()
    elif wanted.get("replay"):
        plain = distilled(data, wanted["replay"], folder)
    else:
        plain = Supervised(
            tiny.model(seed=1) if wanted.get("statistics") else without_statistics(), tiny.labels(0.0)
        )

    def before(number: int) -> float:
        died = folder / "died"
        if (
            number == wanted.get("die")
            and distributed.rank() == distributed.ranks() - 1
            and not died.exists()
        ):
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
    networks = nn.ModuleDict({name: player.network for name, player in made.players.items()})
    torch.save(
        {"state": networks.state_dict(), "history": asdict(history)}, folder / f"rank {distributed.rank()}.pt"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
