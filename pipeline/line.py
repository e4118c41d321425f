"""The line: from a recipe to a verdict. ``plan`` says which stages there are, ``stages`` does their work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.assembly import assemble
from pipeline.data.catalogue import folder as images_of
from pipeline.data.content import KNOWN, findings
from pipeline.engine.job import Resources
from pipeline.engine.stage import ensure
from pipeline.engine.store import Store
from pipeline.plan import plan
from pipeline.recipe.read import read_recipe
from pipeline.recipe.recipe import Recipe
from targets.bundle.bundle import Bundle, write_bundle
from targets.bundle.prove import prove, report_of
from targets.decoding import tell_unread
from targets.devices.address import check_device
from targets.provenance.manifest import MANIFEST
from targets.provenance.signature import check_key, sign
from targets.report.table import write_report
from targets.runner.backends import backend
from targets.spec.profile import Profile, targets_of


@dataclass(frozen=True)
class Workshop:
    """The store of artifacts, the resources of the stages, and a function that shows their progress."""

    store: Store
    say: Callable[[str], None]
    resources: Resources = field(default_factory=Resources)


def deploy(
    recipe: str,
    targets: str,
    device: str,
    out: Path,
    workshop: Workshop,
    baseline: Path | None = None,
    accept: bool = False,
    key: Path | None = None,
) -> dict[str, Any]:
    """The whole line, from a recipe to the report's table, whose ``status`` is the verdict's exit status.

    ``key``: an SSH key that signs each target's files, and each bundle.
    """
    check_device(device)
    if key is not None:
        check_key(key)
    given = read_recipe(recipe)
    with workshop.store.in_use():
        tell_images(given[0], workshop)
        bundles = [bundle(recipe, *given, profile, device, workshop) for profile in targets_of(targets)]
        for one in bundles:
            # What is built on the device itself can be taken there by hand too.
            if one.profile.remote or backend(one.profile.backend).builds_there:
                write_bundle(one, out / one.profile.name / "bundle")
        proofs = [prove(one, device, out / one.profile.name, baseline, accept) for one in bundles]
    table = report_of(bundles, proofs)
    write_report(table, out)
    if key is not None:
        places = [out / one.profile.name for one in bundles]
        for folder in (*places, *(place / "bundle" for place in places)):
            if (folder / MANIFEST).exists():
                sign(folder, key)
    return table


def tell_images(recipe: Recipe, workshop: Workshop) -> None:
    """Say what of the recipe's folder is not read, and which images prove less than they seem to."""
    root = recipe.data.folder
    if root is None:
        return
    found = images_of(root)
    tell_unread(root, map(Path, found.names or ()))
    for finding in findings(found, root, workshop.store.root / KNOWN):
        workshop.say(f"{root}: {finding}")


def bundle(
    name: str, recipe: Recipe, folder: Path, profile: Profile, device: str, workshop: Workshop
) -> Bundle:
    """Everything up to the device: trained, quantized, exported, and the questions it will be asked."""
    stages = plan(recipe, folder, profile, workshop.store.root / KNOWN, device)
    for stage in stages.stages:
        ensure(stage, workshop.store, workshop.say, workshop.resources)
    return assemble(name, recipe, profile, stages, workshop.store)
