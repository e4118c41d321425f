"""The line: from a recipe to a verdict, each room once, top to bottom. Nothing else knows their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pipeline.factory import is_factory, sources
from pipeline.recipe import Network, Recipe, read_recipe, teacher_names
from pipeline.stage import Stage, ensure
from pipeline.store import Store, digest
from targets.answers import Exam
from targets.bundle import Bundle, prove, report_of, write_bundle
from targets.contract import read_contract
from targets.devices import check_device
from targets.measure import Candidate, Method
from targets.profile import Profile, targets_of
from targets.report import network_table, write_report
from targets.runner.backends import Backend, Precision

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
    stages["answers"] = Stage("examine", {}, {"data": data, **teachers, **networks})
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


def deploy(
    recipe: str,
    targets: str,
    device: str,
    out: Path,
    root: Path,
    say: Callable[[str], None],
    baseline: Path | None = None,
    accept: bool = False,
) -> dict[str, Any]:
    """The whole line, from a recipe to the report's table, whose ``status`` is the verdict's exit status."""
    check_device(device)
    given = read_recipe(recipe)
    bundles = [bundle(recipe, *given, profile, device, root, say) for profile in targets_of(targets)]
    for one in bundles:
        # What is built on the device itself can be taken there by hand too.
        if one.profile.remote or one.profile.backend == "tensorrt":
            write_bundle(one, out / one.profile.name / "bundle")
    proofs = [prove(one, device, out / one.profile.name, baseline, accept) for one in bundles]
    table = report_of(bundles, proofs)
    write_report(table, out)
    return table


def bundle(
    name: str,
    recipe: Recipe,
    folder: Path,
    profile: Profile,
    device: str,
    root: Path,
    say: Callable[[str], None],
) -> Bundle:
    """Everything up to the device: trained, quantized, exported, and the questions it will be asked."""
    store = Store(root.resolve())
    stages = plan(recipe, folder, profile, device)
    made = {name: ensure(stage, store, say) for name, stage in stages.items()}
    exam, networks = read_exam(made["answers"])
    candidates = candidates_of(made, Backend(profile.backend).precisions)
    contract = read_contract(onnx.load(candidates[0].model))
    assert contract is not None, "export writes it"
    lineage = [{"key": stage.key, **read_json(made[name] / "origin.json")} for name, stage in stages.items()]
    left_float = read_json(made["student ptq"] / "history.json")["left_float"]
    return Bundle(
        recipe=name,
        profile=profile,
        budgets=recipe.budgets.over(profile.budgets),
        contract=contract,
        candidates=candidates,
        images=made["answers"] / "images.npy",
        exam=exam,
        networks=networks,
        notes={"left_float": left_float, "lineage": lineage},
    )


def candidates_of(made: Mapping[str, Path], precisions: Sequence[Precision]) -> list[Candidate]:
    """Everything that could ship: each network in float32, in the runtime's own float, and in int8.

    Where int8 was trained, the calibrated int8 that the training started from is a candidate too.
    """
    candidates = []
    for network, prefix in (("student", ""), ("pruned", "pruned-")):
        methods: list[Method] = [method for method in ("ptq", "qat") if f"{network} {method}" in made]
        plain: list[Method] = [""]
        for precision in precisions if network in made else ():
            for method in methods if precision == "int8" else plain:
                key = f"{network} {method}".strip()
                lite = made[f"{key} tflite"] / "model.tflite" if f"{key} tflite" in made else None
                name = prefix + candidate_name(precision, method, methods)
                onnx_file = made[f"{key} onnx"] / "model.onnx"
                candidates.append(Candidate(name, onnx_file, precision, network, lite, method))
    return candidates


def candidate_name(precision: Precision, method: Method, methods: Sequence[Method]) -> str:
    if precision == "float32":
        return "float"
    return "int8-ptq" if method == "ptq" and len(methods) > 1 else precision


def read_exam(folder: Path) -> tuple[Exam, list[dict[str, Any]]]:
    """What ``examine`` left: the questions, and a table of each network that answered them."""
    facts = read_json(folder / "networks.json")
    names = [name for name in (*teacher_names(facts), "student", "pruned") if name in facts]
    logits = {name: np.load(folder / f"{name}.npy") for name in names}
    exam = Exam(np.load(folder / "labels.npy"), tuple(facts["classes"]), {"teacher": logits["teacher"]})
    return exam, [network_table(name, facts[name], logits[name], exam) for name in names]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
