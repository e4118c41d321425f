"""plan: every stage of a recipe for a target, described and keyed; nothing runs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from pipeline.engine.stage import Stage
from pipeline.engine.store import digest
from pipeline.recipe.schema import Network, Recipe
from pipeline.user_code import is_factory, sources
from targets.spec.profile import Profile

Plan = dict[str, Stage]


def plan(recipe: Recipe, folder: Path, profile: Profile, device: str = "local") -> Plan:
    """Every stage of the workshop for one recipe and one profile, described and keyed; nothing runs."""
    settings = recipe.model_dump(mode="json")
    student_files = files(recipe.student, folder)
    teacher_files = {name: files(section, folder) for name, section in recipe.all_teachers.items()}
    data_files = sources(recipe.data.factory, folder) if recipe.data.factory else {}

    listing = list_files(recipe.data.folder) if recipe.data.folder else None

    data = Stage("decode", {**settings["data"], "listing": listing}, inputs=data_files)
    check = Stage("check", settings, {"data": data}, prefixed(student=student_files, **teacher_files))
    teachers = {
        name: Stage("teach", section.model_dump(mode="json"), {"data": data}, teacher_files[name])
        for name, section in recipe.all_teachers.items()
    }
    task = {"student": settings["student"], "distill": settings["distill"]}
    student = Stage("distill", task, {"data": data, **teachers}, student_files)
    networks = {"student": student}
    if recipe.prune is not None:
        # What of the target a cut depends on: its channels' multiple, and all of it where latency is the goal.
        target = (
            {"profile": profile.model_dump(mode="json"), "device": device} if recipe.prune.latency else None
        )
        task = {"prune": settings["prune"], "multiple": profile.channel_multiple, "target": target}
        networks["pruned"] = Stage("prune", task, {"data": data, **teachers, "student": student})
    stages = {"check": check, "data": data, **teachers, **networks}
    forms = {"onnx": {"layout": profile.layout, "opset": profile.opset, "format": "onnx"}}
    if profile.format == "tflite" and find_spec("litert_torch"):  # without it the report says what is missing
        converter = {"converter": version("litert-torch")}
        forms["tflite"] = {"layout": profile.layout, "format": "tflite", **converter}
    for name, network in networks.items():
        calibration = {"calibration": recipe.quantize.calibration}
        calibrated = Stage("calibrate", calibration, {"data": data, "student": network})
        checkpoints = {name: network, f"{name} ptq": calibrated}
        if recipe.quantize.method == "qat":
            parents = {"data": data, **teachers, "student": network, "calibrated": calibrated}
            checkpoints[f"{name} qat"] = Stage("quantize", settings["quantize"], parents)
        stages |= checkpoints
        for key, checkpoint in checkpoints.items():
            for kind, form in forms.items():
                stages[f"{key} {kind}"] = Stage("export", form, {"data": data, "checkpoint": checkpoint})
    stages["answers"] = Stage("evaluate", {}, {"data": data, **teachers, **networks})
    return stages


def list_files(folder: Path) -> str:
    """A digest that changes when a file of a folder does: by name, size and time, as make sees it."""
    rows = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return digest([(str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns) for path, stat in rows])


def files(section: Network, folder: Path) -> dict[str, Path]:
    """What a network's tensors come from outside the store: its source, its neighbours, its weights."""
    found = sources(section.network, folder) if is_factory(section.network) else {}
    return {**found, "weights": section.weights} if section.weights else found


def prefixed(**groups: Mapping[str, Path]) -> dict[str, Path]:
    return {f"{group}.{name}": path for group, files in groups.items() for name, path in files.items()}
