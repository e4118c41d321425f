"""What a bundle of a recipe is judged by: the recipe's limits, and what only the target's profile names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline import assembly
from pipeline.recipe.recipe import Recipe
from targets.budgets.evidence import TestSet
from targets.measuring.candidate import Candidate
from targets.spec.profile import Profile

RECIPE = {
    "version": 1,
    "data": "digits",
    "teacher": "resnet8",
    "student": "resnet8",
    "budgets": {"accuracy": 90},
}


def test_a_profile_adds_its_budgets_to_the_recipe_s(
    network: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    test_set = TestSet(np.zeros(1, np.int64), ("a", "b"), {})
    candidates = [Candidate("float", network("nchw-float32"), "float32")]
    for name, found in {"read_test_set": (test_set, []), "candidates_of": candidates, "how_made": []}.items():
        monkeypatch.setattr(assembly, name, lambda *_, found=found: found)
    plan: Any = SimpleNamespace(answers=SimpleNamespace(key="evaluate-1"), stages=[])
    store: Any = SimpleNamespace(file=lambda key, name: Path(key) / name)
    profile = Profile.model_validate(
        {"name": "own", "about": "", "backend": "onnxruntime", "budgets": {"accuracy": 50, "p99_ms": 8}}
    )
    made = assembly.assemble("digits", Recipe.model_validate(RECIPE), profile, plan, store)
    assert made.budgets.root == {"accuracy": 90, "p99_ms": 8}
    assert (made.profile, made.contract.size, made.images) == (profile, (8, 8), Path("evaluate-1/images.npy"))
