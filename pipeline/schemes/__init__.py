"""The catalogue of schemes: who learns from whom. A recipe's section names one; ``offline`` is the rule."""

from __future__ import annotations

from pipeline.hyperparameters import check_arguments
from pipeline.schemes.adversarial import ADVERSARIAL
from pipeline.schemes.base import TAUGHT, Entry, Scheme, Setup
from pipeline.schemes.data_free import DATA_FREE
from pipeline.schemes.mutual import MUTUAL
from pipeline.schemes.offline import OFFLINE
from pipeline.schemes.online import ONLINE
from pipeline.schemes.robust import ROBUST
from pipeline.schemes.self_distillation import SELF
from targets.errors import Refusal, unknown

SCHEMES: dict[str, Entry] = {
    **OFFLINE,
    **MUTUAL,
    **ONLINE,
    **SELF,
    **ROBUST,
    **ADVERSARIAL,
    **DATA_FREE,
}


def build(setup: Setup) -> Scheme:
    """The scheme that a section names.

    Raises Refusal for one that there is not, for hyper-parameters that it does not have, for teachers or losses that
    it needs or would leave unused, and for networks or losses that it cannot take.
    """
    recipe, where = setup.recipe, f"{setup.where}.scheme"
    name = recipe.scheme.name
    if name not in SCHEMES:
        raise unknown("scheme", name, SCHEMES, where)
    entry = SCHEMES[name]
    check_arguments(name, entry.make, recipe.scheme.arguments, where)
    if entry.teachers == "needed" and not setup.teachers:
        raise Refusal(f"{where}: {name} learns from a teacher; give [teacher]")
    if not entry.any_task and not setup.task.of_classes:
        raise Refusal(f"{where}: {name} compares the logits of classes, which {setup.task.name} has none of")
    fields = type(recipe).model_fields
    for key in sorted(TAUGHT - entry.keys):
        if getattr(recipe, key) != fields[key].default:
            raise Refusal(f"{where}: {name} does not read {setup.where}.{key}; drop it")
    if recipe.loss and not setup.teachers:
        raise Refusal(f"{setup.where}.loss: {recipe.loss[0].name} learns from a teacher; give [teacher]")
    return entry.make(setup, **recipe.scheme.arguments)
