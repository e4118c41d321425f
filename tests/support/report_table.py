"""A whole report's table, made of answers and times that are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from targets.budgets.evidence import Measured, TestSet
from targets.limits import Budgets
from targets.measuring.candidate import Measurement
from targets.report.table import compose, network_table, target_table
from targets.spec.profile import Profile
from targets.verdict import judge

LOOSE = Budgets(accuracy=50, drop_vs_teacher=20, drop_vs_float=20, worst_class=1, p99_ms=90, size_mb=5)
SAMPLE = {"threads": 1, "batch": 1, "seconds": 10.0, "processes": 5, "taken": "2026-01-01T00:00:00Z"}


def logits(labels: Any, classes: int, right: float, rng: np.random.Generator) -> Any:
    """Answers of which about a share ``right`` is right."""
    answers = np.where(rng.random(len(labels)) < right, labels, (labels + 1) % classes)
    return np.eye(classes, dtype=np.float32)[answers]


def measured(name: str, speed: float, found: Any, rng: np.random.Generator, memory: int | None) -> Measured:
    blocks = (speed * rng.lognormal(0, 0.05, (14, 1, 1)) * rng.lognormal(0, 0.2, (14, 6, 30))).tolist()
    int8 = 9 if name == "int8" else 0
    operators = {"QLinearConv" if int8 else "FusedConv": 9, "Gemm": 1}
    facts = {"operators": operators, "int8_operators": int8, "float_operators": ["last"]}
    facts |= {
        "precision": "int8" if int8 else "float32",
        "left_float": {"last": "it is an answer"} if int8 else {},
    }
    return Measured(Path(f"{name}.onnx"), int(9e6 * speed), memory, found, blocks, facts)


def build(
    targets: int = 1,
    classes: int = 10,
    images: int = 400,
    names: list[str] | None = None,
    budgets: Budgets = LOOSE,
    candidates: tuple[str, ...] = ("float", "int8"),
    teacher: bool = True,
    memory: int | None = 60_000_000,
) -> dict[str, Any]:
    """A whole report's table: ``targets`` targets, the int8 candidate twice as fast as float on each."""
    rng = np.random.default_rng(7)
    labels = np.sort(rng.integers(0, classes, images))
    known = (names or []) + [f"kind {i}" for i in range(classes)]
    networks: list[dict[str, Any]] = []
    test_set = TestSet(labels, tuple(known[:classes]), {})
    if teacher:
        for name, size in (("teacher", 4.0), ("student", 1.0)):
            test_set.references[name] = logits(labels, classes, 0.95, rng)
            facts = {"network": f"net{size:g}", "parameters": int(70_000 * size), "macs": int(12e6 * size)}
            networks.append(network_table(name, facts, test_set.references[name], test_set))
    tables = []
    for number in range(targets):
        profile = Profile(name=f"board {number}", about="a board", backend="onnxruntime", budgets=budgets)
        found = {}
        for place, name in enumerate(candidates):
            answers = logits(labels, classes, 0.95 - 0.01 * place, rng)
            found[name] = measured(name, 0.01 * 4**number / (1 + place), answers, rng, memory)
        if teacher:
            test_set.references["float"] = found["float"].logits
        environment = {"machine": "x86_64", "cpu": {"model": "a <b>", "features": ["avx2"]}}
        measurement = Measurement(profile.name, "local", found, environment, SAMPLE)
        tables.append(
            target_table(profile, "local", judge(measurement, budgets, test_set), test_set, measurement)
        )
    if not teacher:
        return compose("model.onnx", test_set, networks, tables)
    stage = {"stage": "teach", "seconds": 40.7, "parents": {"data": "decode-0"}, "settings": {"lr": 0.1}}
    lineage = [{"key": "teach-1", **stage, "versions": {"numpy": "2"}}]
    return compose("digits", test_set, networks, tables, lineage=lineage)
