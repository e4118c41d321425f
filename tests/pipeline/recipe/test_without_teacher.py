"""A recipe may have no teacher; what would need one is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.recipe.read import read_recipe
from pipeline.recipe.recipe import Recipe
from targets.errors import Refusal

ALONE = 'version = 1\ndata = "digits"\nstudent = "resnet8"\n'


def test_without_a_teacher_there_is_none_and_the_recipe_survives_json(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(ALONE)
    recipe, _ = read_recipe(str(tmp_path / "recipe.toml"))
    assert recipe.all_teachers == {}
    assert set(recipe.trainings) == {"distill", "quantize"}
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('teachers = ["resnet20"]', "give the first as [teacher]"),
        ("budgets = { drop_vs_teacher = 1 }", "there is no teacher; give [teacher], or drop it"),
    ],
)
def test_what_needs_a_teacher_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "recipe.toml").write_text(ALONE + text)
    with pytest.raises(Refusal, match=re.escape(said)):
        read_recipe(str(tmp_path / "recipe.toml"))
