"""The stages of a recipe one after the other in this process, each key once: fast enough for a table of recipes."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.engine.job import Job
from pipeline.engine.stage import Stage
from pipeline.engine.store import digest
from pipeline.plan import Plan, plan
from pipeline.recipe.read import resolve_paths
from pipeline.recipe.recipe import Recipe
from targets.spec.profile import read_profile


@dataclass(frozen=True)
class Bench:
    """``folder`` is the recipes' own; what is made lies in ``store``, by key."""

    folder: Path
    store: Path

    def plan(self, recipe: dict[str, Any]) -> Plan:
        read = resolve_paths(Recipe.model_validate(recipe), self.folder, self.folder / "recipe.toml")
        return plan(read, self.folder, read_profile("cpu"), self.store / "known.json")

    def key(self, stage: Stage) -> str:
        """As a stage's own, without its code, which stays as it is here."""
        parents = {name: self.key(parent) for name, parent in stage.parents.items()}
        inputs = {name: given.digest for name, given in stage.inputs.items()}
        return digest([stage.name, stage.settings, parents, inputs])

    def made(self, stage: Stage) -> Path:
        """The folder that a stage has left, after its parents."""
        out = self.store / f"{stage.name}-{self.key(stage)}"
        if not out.exists():
            parents = {name: self.made(parent) for name, parent in stage.parents.items()}
            scratch = out.with_suffix(".scratch")
            out.mkdir(parents=True)
            scratch.mkdir()
            inputs = {name: given.path for name, given in stage.inputs.items()}
            settings = json.loads(json.dumps(stage.settings))  # as a process reads them
            importlib.import_module(f"pipeline.stages.{stage.name}").run(
                Job(settings, parents, inputs, out, scratch)
            )
        return out
