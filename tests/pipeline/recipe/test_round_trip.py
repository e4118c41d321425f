"""A recipe through JSON is the same recipe, for whatever a user may write."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.recipe.recipe import Recipe

NAMES = st.sampled_from(["resnet8", "resnet20", "timm/vit_tiny", "mine.net:build"])
ARGUMENTS = st.dictionaries(
    st.text("abc", min_size=1), st.integers() | st.booleans() | st.text() | st.lists(st.integers())
)
TRIPLES = st.tuples(*[st.floats(0, 1, width=32)] * 3)
TRAINING = {
    "epochs": st.integers(0, 500),
    "batch": st.integers(2, 512),
    "lr": st.floats(1e-6, 1.0),
    "momentum": st.floats(0, 0.99),
    "weight_decay": st.floats(0, 0.1),
    "schedule": st.sampled_from(["cosine", "step"]),
    "milestones": st.lists(st.floats(0, 1, exclude_min=True, exclude_max=True), min_size=1, max_size=4),
    "warmup": st.floats(0, 0.9),
    "warmup_steps": st.integers(0, 99),
    "optimizer": st.sampled_from(["sgd", "adamw"]),
    "decay_norms": st.booleans(),
    "clip": st.floats(0, 9),
    "fit": st.sampled_from(["cifar", "photos"]),
    "label_smoothing": st.floats(0, 0.9),
    "cutout": st.integers(0, 32),
    "mixup": st.floats(0, 2),
    "ema": st.floats(0, 0.99),
    "precision": st.sampled_from(["auto", "float32", "bfloat16"]),
    "replay": st.integers(0, 9),
    "seed": st.integers(0, 99),
}
NETWORK = {
    "arguments": ARGUMENTS,
    "taps": st.lists(st.text("ab.", min_size=1), max_size=3),
    "mean": TRIPLES,
    "std": st.tuples(*[st.floats(0.125, 1, width=32)] * 3),
}
WEIGHTS = {"weights": st.sampled_from(["a.pth", "b/c.safetensors"])}
LOSS = st.fixed_dictionaries(
    {"name": st.sampled_from(["kd", "srkd"])},
    optional={
        "weight": st.floats(0, 9),
        "ramp": st.floats(0, 1),
        "stop": st.floats(0.1, 1),
        "temperature": st.floats(1, 9),
    },
)
DISTILL = {
    **TRAINING,
    "epochs": st.integers(1, 9),
    "layer_decay": st.floats(0.1, 1),
    "fit": st.sampled_from(["finetune", "vit"]),
    "label_weight": st.floats(0, 3),
    "loss": st.lists(LOSS, max_size=3),
}
QUANTIZE = {
    **DISTILL,
    "layer_decay": st.just(1.0),
    "fit": st.sampled_from(["photos", "vit"]),
    "method": st.sampled_from(["qat", "ptq"]),
}
TEACHER = st.one_of(
    st.fixed_dictionaries({"network": NAMES, "epochs": st.integers(1, 9)}, optional={**NETWORK, **WEIGHTS}),
    st.fixed_dictionaries({"network": NAMES, "weights": st.just("a.pth")}, optional={**TRAINING, **NETWORK}),
)
FOLDER = st.fixed_dictionaries({"folder": st.just("photos")}, optional={"size": st.integers(8, 99)})
RECIPES = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "data": st.just("digits") | FOLDER,
        "teacher": TEACHER,
        "student": NAMES | st.fixed_dictionaries({"network": NAMES}, optional={**NETWORK, **WEIGHTS}),
    },
    optional={
        "teachers": st.lists(TEACHER, max_size=2),
        "distill": st.fixed_dictionaries({}, optional=DISTILL),
        "quantize": st.fixed_dictionaries({}, optional=QUANTIZE),
        "prune": st.fixed_dictionaries({"macs": st.floats(0.1, 0.9)}, optional=DISTILL),
        "budgets": st.fixed_dictionaries({}, optional={"accuracy": st.floats(1, 100), "p99_ms": st.floats(0.1, 9)}),
    },
)  # fmt: skip


@given(RECIPES)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_a_recipe_through_json_is_the_same_recipe(raw: dict[str, Any]) -> None:
    """Each stage reads its settings again: nothing may hang on which field the user wrote."""
    recipe = Recipe.model_validate(raw)
    again = Recipe.model_validate_json(recipe.model_dump_json())
    assert again == recipe
    for name, section in recipe.all_teachers.items():
        assert type(section).model_validate(section.model_dump(mode="json")).training == section.training, (
            name
        )
    for mine in (recipe.distill, recipe.quantize, recipe.prune, recipe.student, recipe.data, recipe.budgets):
        if mine is not None:
            assert type(mine).model_validate(mine.model_dump(mode="json")) == mine
