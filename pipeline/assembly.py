"""assembly: what the stages of a plan have made, as the bundle that a target is proved with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pipeline.engine.stage import Stage
from pipeline.engine.store import Store
from pipeline.plan import Plan, Variant
from pipeline.recipe.read import recipe_file
from pipeline.recipe.recipe import Recipe, teacher_names
from targets.budgets.evidence import TestSet
from targets.bundle.bundle import Bundle
from targets.measuring.candidate import Candidate
from targets.provenance.manifest import sha256
from targets.report.table import network_table
from targets.runner.backends import Precision, backend
from targets.spec.contract import read_contract
from targets.spec.profile import Profile


def assemble(name: str, recipe: Recipe, profile: Profile, plan: Plan, store: Store) -> Bundle:
    """Everything that a target needs; all of the plan's stages are in the store."""
    test_set, networks = read_test_set(plan.answers, store)
    candidates = candidates_of(plan, store, backend(profile.backend).precisions)
    contract = read_contract(onnx.load(candidates[0].model))
    assert contract is not None, "export writes it"
    return Bundle(
        recipe=name,
        profile=profile,
        budgets=recipe.budgets.over(profile.budgets),
        contract=contract,
        candidates=candidates,
        images=store.file(plan.answers.key, "images.npy"),
        test_set=test_set,
        networks=networks,
        notes={
            "recipe_sha256": sha256(recipe_file(name)),
            "lineage": [lineage(stage, store) for stage in plan.stages],
            "made_by": how_made(plan, store),
        },
    )


def candidates_of(plan: Plan, store: Store, precisions: Sequence[Precision]) -> list[Candidate]:
    """Everything that could ship: each network in float32, in the runtime's own float, and in int8.

    Where int8 was trained, the calibrated int8 that the training started from is a candidate too.
    """
    return [
        candidate(one, precision, plan, store)
        for network in plan.networks
        for precision in precisions
        for one in plan.variants
        if one.network == network and bool(one.method) == (precision == "int8")
    ]


def candidate(one: Variant, precision: Precision, plan: Plan, store: Store) -> Candidate:
    trained = any(other.network == one.network and other.method == "qat" for other in plan.variants)
    name = {"float32": "float", "native": "native", "int8": "int8"}[precision]
    name += "-ptq" if trained and one.method == "ptq" else ""
    name = name if one.network == "student" else f"{one.network}-{name}"
    files = {form: store.file(stage.key, f"model.{form}") for form, stage in one.files.items()}
    return Candidate(name, files["onnx"], precision, one.network, files.get("tflite"), one.method)


def lineage(stage: Stage, store: Store) -> dict[str, Any]:
    return {"key": stage.key, **read_json(store.file(stage.key, "origin.json"))}


def how_made(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """What each training, cut and export found, for the report."""
    named = {**plan.teachers, **plan.networks}
    rows = [note(name, stage, store, "history.json") for name, stage in named.items()]
    for one in plan.variants:
        form = {"": "", "ptq": " int8, calibrated", "qat": " int8, trained"}[one.method]
        if one.method:
            rows.append(note(one.network + form, one.checkpoint, store, "history.json"))
        rows += [note(one.network + form, stage, store, "export.json") for stage in one.files.values()]
    return rows


def note(name: str, stage: Stage, store: Store, file: str) -> dict[str, Any]:
    return {"name": name, "stage": stage.name, **read_json(store.file(stage.key, file))}


def read_test_set(stage: Stage, store: Store) -> tuple[TestSet, list[dict[str, Any]]]:
    """What ``evaluate`` left: the questions, and a table of each network that answered them."""
    facts = read_json(store.file(stage.key, "networks.json"))
    names = [name for name in (*teacher_names(facts), "student", "pruned") if name in facts]
    logits = {name: np.load(store.file(stage.key, f"{name}.npy")) for name in names}
    references = {name: logits[name] for name in ("teacher",) if name in logits}
    labels = np.load(store.file(stage.key, "labels.npy"))
    test_set = TestSet(labels, tuple(facts["classes"]), references, facts["task"])
    return test_set, [network_table(name, facts[name], logits[name], test_set) for name in names]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
