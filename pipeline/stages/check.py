"""check: every name resolved, every hyper-parameter bound, every network tried, before the first batch."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from pipeline.artifacts import checkpoint
from pipeline.artifacts.checkpoint import Begun, Checkpoint
from pipeline.artifacts.onnx_file import Deployed, contract_for, write
from pipeline.data import decoded
from pipeline.data.batches import Batch, Epoch, Pixels, training_batches
from pipeline.data.decoded import TRAIN, Decoded
from pipeline.engine.job import Job
from pipeline.engine.stage_error import users_frame
from pipeline.engine.store import write_json
from pipeline.models.tapped_model import Model
from pipeline.pruning.channels import cuts
from pipeline.pruning.criteria import CRITERIA, NEED_GRADIENTS
from pipeline.pruning.shapes import changed, resize, shapes_of
from pipeline.quantization.grid import convert
from pipeline.quantization.ptq import prepare, prove_equal
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.schema import Network, Teacher
from pipeline.schemes import build
from pipeline.schemes.base import Scheme, Setup
from pipeline.tasks import TASKS
from pipeline.training.optimisers import settle
from targets.errors import Refusal, first_line, unknown
from targets.progress import say

OPSET = 20  # of the trial; a target's own may be another


def tell(where: str, section: Network, begun: Begun) -> None:
    """What was changed of it and taken of given weights. Raises Refusal for a teacher with random answers."""
    for note in begun.notes:
        say(f"{where}: {note}")
    if begun.fitted is None:
        return
    new = ", ".join(f"{layer} ({why})" for layer, why in begun.fitted.new.items())
    say(f"{where}: {begun.fitted.taken} of {begun.fitted.of} given tensors taken; new: {new or 'nothing'}")
    if new and isinstance(section, Teacher) and not section.epochs:
        raise Refusal(f"{where}: its head is new: {new}; train it: epochs = 10, say")


def run(job: Job) -> None:
    # The section on images has done its work in decode: any valid one stands in for it here.
    recipe = Recipe.model_validate({**job.settings, "data": "digits"})
    data = decoded.read(job.parents["data"])
    for where, training in recipe.trainings.items():
        settle(training, len(data.part(TRAIN)), job.resources.processes * job.resources.nodes, where)
        TASKS[data.facts.task].check_training(training.label_smoothing, where)
    models: dict[str, Model] = {}
    described: dict[str, Checkpoint] = {}
    for where, section in {**recipe.all_teachers, "student": recipe.student}.items():
        begun = checkpoint.begin(section, data.facts, checkpoint.below(job.inputs, f"{where}/"), where)
        tell(where, section, begun)
        models[where], described[where] = begun.model, begun.checkpoint
    student, teachers = models["student"], [models[name] for name in recipe.all_teachers]
    left = checkpoint.leave_training(described["student"], copy.deepcopy(student)).model
    try_cut(recipe, left, data)
    try_int8(left, data, job.scratch)
    # Last: what a network keeps of a pass with gradients (in a hook, say) cannot be copied.
    inputs = checkpoint.below(job.inputs, "student/")
    fresh = partial(checkpoint.fresh, recipe.student, data.facts, inputs)
    try_schemes(recipe, student, teachers, data, job.scratch, fresh)
    facts = {
        name: {"parameters": sum(p.numel() for p in model.parameters()), "taps": model.taps}
        for name, model in models.items()
    }
    write_json(job.out / "check.json", facts)


def try_schemes(
    recipe: Recipe,
    student: Model,
    teachers: list[Model],
    data: Decoded,
    scratch: Path,
    fresh: Callable[[str], Model],
) -> None:
    """A few images through every phase of the recipe's schemes, at the times at which their losses act."""
    setup = Setup(student, student, teachers, data, recipe.distill, "distill", scratch, fresh)
    above = teachers or [copy.deepcopy(student)]
    later = {"quantize": recipe.quantize, "prune": recipe.prune}
    setups = [setup] + [
        replace(setup, teachers=above, recipe=section, where=where, fresh=None)
        for where, section in later.items()
        if section is not None
    ]
    pixels, few = Pixels(data, move=TASKS[data.facts.task].moved), data.part(TRAIN)[:4]
    for one, scheme in [(one, build(one)) for one in setups]:  # all made before a pass leaves its gradients
        images = training_batches(pixels, few, one.recipe.batch, one.recipe, Epoch(0, 0, 0))
        try_phases(scheme, next(scheme.source(images)), one.where)


def try_phases(scheme: Scheme, batch: Batch, where: str) -> None:
    """Raises Refusal where a loss cannot take these networks, or is no number."""
    for progress in (0.0, 0.5, 0.99):  # not every loss acts at all times
        for phase in scheme.phases(progress):
            try:
                losses = phase.losses(batch, torch.Generator())
            except (ValueError, RuntimeError) as error:
                raise Refusal(f"{where}.loss: {first_line(error)}") from None
            for loss in losses.values():
                if not loss.isfinite():
                    raise Refusal(
                        f"{where}.loss: it is {loss.item()} of the first images; look at its numbers"
                    )


def try_cut(recipe: Recipe, student: Model, data: Decoded) -> None:
    """The first step of the pruning on a copy. Raises Refusal where the network cannot be cut."""
    if recipe.prune is None:
        return
    criterion, shape = recipe.prune.criterion, data.facts.shape
    if criterion not in CRITERIA:
        raise unknown("criterion", criterion, CRITERIA, "prune.criterion")

    def gradients(network: nn.Module) -> None:
        network.zero_grad()
        network(torch.rand(2, *shape)).square().sum().backward()

    cut = copy.deepcopy(student)
    next(cuts(cut, shape, criterion, 1, gradients if criterion in NEED_GRADIENTS else None))
    resize(copy.deepcopy(student).network, changed(cut.network, shapes_of(student.network)))


def try_int8(student: Model, data: Decoded, scratch: Path) -> None:
    """The untrained student captured, rounded and exported. Raises Refusal where one of these fails."""
    shape, logger = data.facts.shape, logging.getLogger("torch.fx.experimental.symbolic_shapes")
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            grid = prepare(student, shape)  # which prints the graph where it fails
    except Exception as error:  # whatever the user's own code makes torch.export raise
        own = users_frame(error)
        place = f" past {own.filename}:{own.lineno}, {own.line}" if own is not None else ""
        raise Refusal(
            f"student: no graph can be captured of it{place} ({type(error).__name__}: {first_line(error)});"
            " its forward must not depend on the values of a tensor: torch.where instead of an if"
        ) from None
    prove_equal(student, grid, shape)
    contract = contract_for("nchw-float32", data.facts)
    try:
        write(Deployed(convert(grid), contract.layout), contract, OPSET, scratch / "trial.onnx")
    except Refusal:
        raise
    except Exception as error:  # whatever the exporter meets
        raise Refusal(
            f"student: it cannot be exported to ONNX ({type(error).__name__}: {first_line(error)}); exchange the"
            " layer that has no operator there"
        ) from None
