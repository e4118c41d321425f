"""The line: from a recipe to a verdict, each room once, top to bottom. Nothing else knows their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pipeline.engine.stage import ensure
from pipeline.engine.store import Store
from pipeline.plan import plan
from pipeline.recipe.read import read_recipe
from pipeline.recipe.schema import Recipe, teacher_names
from targets.bundle.bundle import Bundle, write_bundle
from targets.bundle.prove import prove, report_of
from targets.devices.address import check_device
from targets.measuring.candidate import Candidate, Method
from targets.report.table import network_table, write_report
from targets.runner.backends import Backend, Precision
from targets.spec.contract import read_contract
from targets.spec.profile import Profile, targets_of
from targets.tasks.classification import Exam


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
