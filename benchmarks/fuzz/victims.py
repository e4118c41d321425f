"""The commands that are killed, each in a folder of its own, and what of their results is compared."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.evidence import ROOT
from targets.provenance.manifest import write_manifest

UNTIMED = 'about = "quick"\nbackend = "onnxruntime"\nremote = true\nstand_in = true\n'
WORDS = {
    "deploy": ("deploy", "recipe.toml", "--target", "quick.toml", "--store", "store", "--trust-store"),
    "gate": ("gate", "model.onnx", "--images", "photos", "--target", "quick.toml", "--budget", "accuracy=1"),
    "measure": ("measure", "bundle"),
}
NEEDS = {
    "deploy": ("recipe.toml", "net.py", "photos"),
    "gate": ("model.onnx", "quick.toml", "photos"),
    "measure": ("bundle",),
}
# What differs from run to run: how long it took, and its digest.
TIMED = ("origin.json", "manifest.json")


@dataclass
class Victim:
    """A command in a folder; its processes are known by a word in their environment."""

    command: str
    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self) -> subprocess.Popen[str]:
        """With temporary files, a home and a group of processes of its own."""
        for name in ("tmp", "home"):
            (self.folder / name).mkdir(exist_ok=True)
        own = {"TMPDIR": "tmp", "HOME": "home", "RETORT_CACHE": "home/.cache"}
        environment = {**os.environ, **{name: str(self.folder / place) for name, place in own.items()}}
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "MARK": self.mark}
        words = (*WORDS[self.command], "--accept", "not-measured")
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli.main", *words],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )

    def running(self) -> list[str]:
        """What is at work of this victim, by its command lines."""
        return list(marked(f"MARK={self.mark}"))

    def lying_about(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "tmp").iterdir())

    def results(self) -> dict[str, bytes]:
        """The files that a run keeps: the store's artifacts, and the files that would ship."""
        places = {
            "deploy": ("store/objects/*/**/*",),
            "gate": ("report/*/*.onnx",),
            "measure": ("report/*/*.onnx",),
        }
        found = [path for place in places[self.command] for path in self.folder.glob(place)]
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in found
            if path.is_file() and path.name not in TIMED
        }


def marked(word: str) -> Iterator[str]:
    """The command lines of processes with that word in their environment; what has ended is not at work."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() not in (path / "environ").read_bytes().split(b"\0"):
                continue
            if (path / "stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX":
                yield (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # it ended meanwhile


def prepared(command: str, corpus: Path, folder: Path, whole: Path, random: Random) -> tuple[Victim, str]:
    """A victim, and what it will make: a deploy finds a whole store but for one stage's artifact, which is drawn."""
    folder.mkdir(parents=True)
    for name in NEEDS[command]:
        if (corpus / name).is_dir():
            shutil.copytree(corpus / name, folder / name)
        else:
            shutil.copyfile(corpus / name, folder / name)
    if command == "measure":
        untimed(folder / "bundle")
    if command != "deploy":
        return Victim(command, folder), command
    (folder / "quick.toml").write_text(UNTIMED)
    if not whole.exists():
        return Victim(command, folder), "all stages"
    shutil.copytree(whole / "store", folder / "store")
    stages = sorted((folder / "store/objects").iterdir())
    seconds = [json.loads((stage / "origin.json").read_text())["seconds"] for stage in stages]
    (gone,) = random.choices(stages, [max(1.0, one) for one in seconds])
    shutil.rmtree(gone)
    return Victim(command, folder), gone.name.split("-")[0]


def untimed(bundle: Path) -> None:
    """Have a bundle's profile say what ``UNTIMED`` does."""
    index = json.loads((bundle / "bundle.json").read_text())
    index["profile"] |= {"remote": True, "stand_in": True, "budgets": {}}
    (bundle / "bundle.json").write_text(json.dumps(index))
    write_manifest(bundle)
