"""check: every name resolved, every hyper-parameter bound, every network tried, before the first batch."""

from __future__ import annotations

import json

import torch

from pipeline.artifacts import checkpoint
from pipeline.artifacts.checkpoint import Begun
from pipeline.data import decoded
from pipeline.data.batches import Epoch, Pixels, training_batches
from pipeline.data.decoded import TRAIN
from pipeline.engine.job import Job
from pipeline.models.tapped_model import Model
from pipeline.pruning.criteria import CRITERIA
from pipeline.quantization.ptq import prepare, prove_equal
from pipeline.recipe.schema import Network, Recipe, Teacher
from pipeline.schemes.offline import offline
from targets.errors import Refusal, first_line, unknown
from targets.progress import say


def tell(where: str, section: Network, begun: Begun) -> None:
    """What was taken of given weights. Raises Refusal for a teacher whose answers would be random."""
    if begun.fitted is None:
        return
    new = ", ".join(f"{layer} ({why})" for layer, why in begun.fitted.new.items())
    say(f"{where}: {begun.fitted.taken} of {begun.fitted.of} given tensors taken; new: {new or 'nothing'}")
    if new and isinstance(section, Teacher) and not section.epochs:
        raise Refusal(f"{where}: its head is new: {new}; train it: epochs = 10, say")


def run(job: Job) -> None:
    recipe = Recipe.model_validate(
        {**job.settings, "data": "digits"}
    )  # of the images only their facts are asked
    data = decoded.read(job.parents["data"])
    models: dict[str, Model] = {}
    sections = {**recipe.all_teachers, "student": recipe.student}
    for where, section in sections.items():
        begun = checkpoint.begin(section, data.facts, checkpoint.below(job.inputs, f"{where}/"), where)
        tell(where, section, begun)
        models[where] = begun.model
    pixels, few = Pixels(data), data.part(TRAIN)[:4]
    student, teachers = models["student"], [models[name] for name in recipe.all_teachers]
    try:
        prove_equal(student, prepare(student, data.facts.size), data.facts.size)
    except Refusal:
        raise
    except Exception as error:  # whatever the user's own code makes torch.export raise
        raise Refusal(
            f"student: no graph can be captured of it ({type(error).__name__}: {first_line(error)}); its forward"
            " must not depend on the values of a tensor"
        ) from None
    tasks = {"distill": recipe.distill, "quantize": recipe.quantize, "prune": recipe.prune}
    for where, task in tasks.items():
        if task is not None:
            scheme = offline(student, student, teachers, data, task, where, job.scratch)
            batch = next(training_batches(pixels, few, task.batch, task, Epoch(0, 0, 0)))
            try:
                for progress in (0.0, 0.5, 0.99):  # not every loss acts at all times
                    total = scheme.step(batch, progress, torch.Generator())["student"]
            except (ValueError, RuntimeError) as error:  # a loss that cannot take these networks
                raise Refusal(f"{where}.loss: {first_line(error)}") from None
            if not total.isfinite():
                raise Refusal(f"{where}.loss: it is {total.item()} of the first images; look at its numbers")
    if recipe.prune is not None and recipe.prune.criterion not in CRITERIA:
        raise unknown("criterion", recipe.prune.criterion, CRITERIA, "prune.criterion")
    facts = {
        name: {"parameters": sum(p.numel() for p in model.parameters()), "taps": model.taps}
        for name, model in models.items()
    }
    (job.out / "check.json").write_text(json.dumps(facts))
