"""plan: every stage of a recipe for a target, described and keyed; nothing runs.

The settings of a stage hold no path: a file from outside the store is an input, and counts by its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.data.content import folder_digest
from pipeline.engine.job import CODE, without_files
from pipeline.engine.stage import Input, Stage
from pipeline.models.names import brought, catalogue_entries
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.schema import Distill, Network
from pipeline.user_code import code_files, is_factory, packages_of
from targets.budgets.evidence import Method
from targets.spec.profile import Profile


@dataclass(frozen=True)
class Variant:
    """A network of the recipe in one form: in float, or in int8 by a method; and the files made of it, by format."""

    network: str
    method: Method
    checkpoint: Stage
    files: Mapping[str, Stage]


@dataclass(frozen=True)
class Plan:
    """The stages of one recipe for one target."""

    check: Stage
    data: Stage
    teachers: Mapping[str, Stage]
    networks: Mapping[str, Stage]  # the student, and "pruned" where the recipe prunes
    variants: tuple[Variant, ...]
    answers: Stage

    @property
    def stages(self) -> list[Stage]:
        """Each once, in the order in which they are made."""
        variants = [stage for one in self.variants for stage in (one.checkpoint, *one.files.values())]
        networks = [*self.teachers.values(), *self.networks.values()]
        return list({s.key: s for s in (self.check, self.data, *networks, *variants, self.answers)}.values())


@dataclass(frozen=True)
class Outside:
    """What a section takes from outside the store, and its settings without paths."""

    settings: dict[str, Any]
    inputs: Mapping[str, Input]
    uses: frozenset[str]
    packages: frozenset[str]


def plan(recipe: Recipe, folder: Path, profile: Profile, known: Path, device: str = "local") -> Plan:
    """The stages of a recipe whose paths start from ``folder``; ``known`` keeps the digests of its images.

    Raises Refusal for images or code that cannot be found.
    """
    data, check, teachers, student = first_stages(recipe, folder, known)
    networks, above = {"student": student}, teachers or {"teacher": student}
    if recipe.prune is not None:
        networks["pruned"] = pruned(recipe, profile, device, data, above, student)
    formats = ["onnx"]
    if profile.format == "tflite" and find_spec("litert_torch"):  # without it the report says what is missing
        formats.append("tflite")
    variants = []
    for name, network in networks.items():
        edits = frozenset({"quantize", *(["cut"] if name == "pruned" else [])})
        calibration = {"calibration": recipe.quantize.calibration}
        calibrated = stage("calibrate", calibration, {"data": data, "student": network}, edits)
        checkpoints: dict[Method, Stage] = {"": network, "ptq": calibrated}
        if recipe.quantize.method == "qat":
            parents = {"data": data, **above, "student": network, "calibrated": calibrated}
            settings = recipe.quantize.model_dump(mode="json", exclude={"calibration", "method"})
            uses = edits | taught_by(recipe.quantize)
            checkpoints["qat"] = stage("quantize", settings, parents, uses, trains=True)
        for method, checkpoint in checkpoints.items():
            parents = {"data": data, "checkpoint": checkpoint}
            files = {
                form: stage("export", export_settings(profile, form), parents, edits | {form})
                for form in formats
            }
            variants.append(Variant(name, method, checkpoint, files))
    answers = stage("evaluate", {}, {"data": data, **teachers, **networks}, frozenset({"cut"}))
    return Plan(check, data, teachers, networks, tuple(variants), answers)


def first_stages(recipe: Recipe, folder: Path, known: Path) -> tuple[Stage, Stage, dict[str, Stage], Stage]:
    """The images, the check of the whole recipe, the teachers and the student."""
    images, own = outside_data(recipe, folder, known), outside_network(recipe.student, folder)
    outside = {name: outside_network(section, folder) for name, section in recipe.all_teachers.items()}
    task = recipe.data.task
    data = Stage("decode", images.settings, {}, images.inputs, images.uses, images.packages)
    teachers = {
        name: Stage(
            "teach", one.settings, {"data": data}, one.inputs, one.uses | {task}, one.packages, trains=True
        )
        for name, one in outside.items()
    }
    settings = {"student": own.settings, "distill": recipe.distill.model_dump(mode="json")}
    student = Stage(
        "distill",
        settings,
        {"data": data, **teachers},
        own.inputs,
        own.uses.union(
            {"drop", "fold", task}, taught_by(recipe.distill), *(one.uses for one in outside.values())
        ),
        own.packages.union(*(one.packages for one in outside.values())),
        trains=True,
    )
    return data, check_stage(recipe, data, {"student": own, **outside}), teachers, student


def check_stage(recipe: Recipe, data: Stage, sections: Mapping[str, Outside]) -> Stage:
    """All that the recipe will do, tried in seconds; each section's inputs behind its name."""
    settings = recipe.model_dump(mode="json", exclude={"data", "budgets"})
    settings |= {name: one.settings for name, one in sections.items() if name in ("student", "teacher")}
    settings["teachers"] = [
        one.settings for name, one in sections.items() if name not in ("student", "teacher")
    ]
    trainings = [one for one in (recipe.distill, recipe.quantize, recipe.prune) if one is not None]
    uses = [frozenset({recipe.data.task}), *map(taught_by, trainings)]
    if recipe.prune is not None:
        uses.append(frozenset({recipe.prune.criterion}))
    return Stage(
        "check",
        settings,
        {"data": data},
        {f"{name}/{key}": given for name, one in sections.items() for key, given in one.inputs.items()},
        frozenset().union(*uses, *(one.uses for one in sections.values())),
        frozenset().union(*(one.packages for one in sections.values())),
    )


def pruned(
    recipe: Recipe, profile: Profile, device: str, data: Stage, teachers: Mapping[str, Stage], student: Stage
) -> Stage:
    """The student with channels cut out: by latency it depends on the target, else on its channels' multiple."""
    assert recipe.prune is not None, "the recipe prunes"
    goal = "latency" if recipe.prune.latency else "macs"
    target = {"profile": profile.model_dump(mode="json"), "device": device} if goal == "latency" else None
    settings = {"multiple": profile.channel_multiple, "target": target}
    settings["prune"] = recipe.prune.model_dump(mode="json")
    uses = taught_by(recipe.prune) | {recipe.prune.criterion, goal}
    return stage("prune", settings, {"data": data, **teachers, "student": student}, uses, trains=True)


def stage(
    name: str,
    settings: Mapping[str, Any],
    parents: Mapping[str, Stage],
    uses: frozenset[str],
    trains: bool = False,
) -> Stage:
    """A stage whose parents are checkpoints: it builds their networks again, so it uses what they use."""
    uses = uses.union(*(parent.uses for parent in parents.values()))
    packages = frozenset().union(*(parent.packages for parent in parents.values()))
    return Stage(name, settings, parents, {}, uses, packages, trains)


def export_settings(profile: Profile, form: str) -> dict[str, Any]:
    settings = {"layout": profile.layout, "format": form}
    return {**settings, "opset": profile.opset} if form == "onnx" else settings


def taught_by(task: Distill) -> frozenset[str]:
    """The entries of catalogues that a section names: its scheme, its losses, and networks in a list."""
    lists = [value for value in task.scheme.arguments.values() if isinstance(value, list)]
    networks = [catalogue_entries(one) for names in lists for one in names if isinstance(one, str)]
    return frozenset({task.scheme.name, *(loss.name for loss in task.losses)}).union(*networks)


def outside_network(section: Network, folder: Path) -> Outside:
    """A network's code and weights."""
    settings = section.model_dump(mode="json", exclude={"weights", "files"})
    code = code_files(section.network, folder, section.files) if is_factory(section.network) else {}
    settings["arguments"], named = without_files(settings["arguments"], folder)
    inputs = dict(inputs_of(code, named))
    if section.weights is not None:
        inputs["weights"] = Input.of(section.weights)
        settings["weights"] = "weights"  # the name of the input
    return Outside(settings, inputs, catalogue_entries(section.network), packages_of(code))


def outside_data(recipe: Recipe, folder: Path, known: Path) -> Outside:
    """The images of a folder, by content, or the code of a factory; decoded as the first network's weights want."""
    section = recipe.data
    settings = section.model_dump(mode="json", exclude={"folder", "files"})
    code = code_files(section.factory, folder, section.files) if section.factory else {}
    settings["arguments"], named = without_files(settings["arguments"], folder)
    inputs = dict(inputs_of(code, named))
    if section.folder is not None:
        read = partial(folder_digest, known=known)
        inputs["folder"] = Input(section.folder, read(section.folder), read)
        settings["folder"] = "folder"
    uses = frozenset({section.name or "", section.task})
    first = recipe.teacher or recipe.student
    weights = brought(first.network, first.arguments)
    if section.name is None and weights is not None:  # a set of the catalogue has a size of its own
        settings["weights"] = weights
        uses |= catalogue_entries(first.network)
    return Outside(settings, inputs, uses, packages_of(code))


def code_of_recipe(recipe: Recipe, folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """(section, factory, files) of all code of a user's that the recipe would run; no files for a package's."""
    sections = {**recipe.all_teachers, "student": recipe.student}
    named = {name: (section.network, section.files) for name, section in sections.items()}
    if recipe.data.factory is not None:
        named["data"] = recipe.data.factory, recipe.data.files
    for name, (factory, files) in named.items():
        if is_factory(factory):
            yield name, factory, list(code_files(factory, folder, files))


def inputs_of(code: Mapping[str, Path], named: Mapping[str, Path]) -> Iterator[tuple[str, Input]]:
    yield from ((f"{CODE}{name}", Input.of(path)) for name, path in code.items())
    yield from ((name, Input.of(path)) for name, path in named.items())
