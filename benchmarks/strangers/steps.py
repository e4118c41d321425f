"""Every step of the line on one network, by the stages' own functions, each by itself.

A step gives numbers or raises. A ``Refusal`` by what is tried at the door (``DOOR``) is a refusal; any other error,
and a refusal later on, is a finding. So is an int8 file whose answers are far from the trained grid's.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import fx, nn

from benchmarks.strangers.subject import Subject, settle_norms
from pipeline.artifacts import checkpoint, onnx_file, tflite_file
from pipeline.artifacts.comparison import TOLERANCE, compare
from pipeline.artifacts.onnx_file import Deployed
from pipeline.data.batches import Epoch, Pixels, training_batches
from pipeline.data.decoded import TRAIN
from pipeline.pruning.channels import cuts
from pipeline.pruning.shapes import changed, resize, shapes_of
from pipeline.quantization import ptq
from pipeline.quantization.grid import convert
from pipeline.recipe.schema import Quantize
from pipeline.schemes.base import Setup
from pipeline.schemes.offline import offline
from pipeline.stages.check import try_int8
from targets.convert.target_file import derived
from targets.errors import Refusal, first_line
from targets.limits import Budgets
from targets.quantize.images import Part
from targets.quantize.quantize import Order, Quantizer
from targets.runner.backends import REFERENCE, backend
from targets.spec.profile import Profile, read_profile

LIMIT_S = 240  # of the processor's time: whatever else runs beside it
QAT_STEPS, CUT_STEPS = 3, 4
OPSET = 20
APART = 0.2  # of the answers' reach: more than this between a file and its grid is a finding
DOOR = ("check", "prune")


def check(one: Subject) -> dict[str, Any]:
    torch.manual_seed(0)
    begun = checkpoint.begin(one.section, one.data.facts, {}, "student")
    settle_norms(begun.model, one.data)
    left = checkpoint.leave_training(begun.checkpoint, copy.deepcopy(begun.model))
    try_int8(left.model, one.data, one.folder)
    one.made["model"] = left.model.eval()
    return {"taps": len(left.model.taps), "note": left.note}


def float_export(one: Subject) -> dict[str, Any]:
    path = one.folder / "float.onnx"
    deployed = Deployed(one.made["model"], "nchw-float32")
    onnx_file.write(deployed, one.contract, OPSET, path)
    one.made["float"] = path
    return {"apart": compared(deployed, path, one, "float")}


def compared(deployed: Deployed, path: Path, one: Subject, kind: str) -> float:
    """What export itself compares, as a share of the answers' reach."""
    found = compare(deployed, path, one.contract, one.data, kind)
    return float(found["largest"] / max(found["logits_reach"], 1e-9))


def calibrate(one: Subject) -> dict[str, Any]:
    grid = ptq.calibrated(one.made["model"], one.data, len(one.data.part(TRAIN)))
    one.made["grid"] = grid
    one.made["float answers"] = answers(one.made["model"], one)
    one.made["grid answers"] = answers(grid, one)
    return distance(one.made["float answers"], one.made["grid answers"])


def answers(network: nn.Module, one: Subject) -> NDArray[np.float32]:
    with torch.no_grad():
        found: NDArray[np.float32] = network(torch.from_numpy(one.test_images))[0].numpy()
    return found


def distance(expected: NDArray[np.float32], found: NDArray[np.float32]) -> dict[str, float]:
    """The largest difference over the reach of the answers, and the share of equal answers."""
    reach = max(float(np.abs(expected).max()), 1e-9)
    return {
        "apart": float(np.abs(expected - found).max()) / reach,
        "same": float((expected.argmax(1) == found.argmax(1)).mean()),
    }


def train_on_grid(one: Subject) -> dict[str, Any]:
    """A few steps with the float network as the teacher, as the stage's scheme takes them."""
    grid, teacher = copy.deepcopy(one.made["grid"]), copy.deepcopy(one.made["model"])
    recipe = Quantize(method="qat", batch=8, lr=1e-4)
    scheme = offline(Setup(grid, teacher, [teacher], one.data, recipe, "quantize", one.folder))
    grid.train()
    parameters = [p for p in grid.parameters() if p.requires_grad]
    optimiser, total = torch.optim.SGD(parameters, recipe.lr), torch.zeros(())
    batches = training_batches(Pixels(one.data), one.data.part(TRAIN), 8, recipe, Epoch(0, 0, 0))
    for _, batch in zip(range(QAT_STEPS), batches, strict=False):
        optimiser.zero_grad()
        # As the loop gives them to a network that cannot take its own layout of memory.
        batch = replace(batch, images=batch.images.contiguous())
        (phase,) = scheme.phases(0.0)
        total = phase.losses(batch, torch.Generator().manual_seed(0))["student"]
        total.backward()
        optimiser.step()
    if not total.isfinite():
        raise ValueError(f"the loss is {total.item()} after {QAT_STEPS} steps")
    return distance(one.made["float answers"], answers(grid.eval(), one))


def prune(one: Subject) -> dict[str, Any]:
    """A few cuts; what is left is built anew from its shapes and answers the same."""
    model = copy.deepcopy(one.made["model"])
    before = shapes_of(model.network)
    *_, left = itertools.islice(cuts(model, one.data.facts.shape, "magnitude", 8, None), CUT_STEPS)
    fresh = copy.deepcopy(one.made["model"])
    resize(fresh.network, changed(model.network, before))
    fresh.load_state_dict(model.state_dict())
    found = distance(answers(model.eval(), one), answers(fresh.eval(), one))
    if found["apart"] > TOLERANCE["float"]:
        raise ValueError(f"the network that is built anew answers {found['apart']:.2g} of the reach apart")
    return {"macs": left}


def exported(one: Subject) -> onnx.ModelProto:
    """The int8 file that each target's is made of."""
    if "int8" not in one.made:
        path = one.folder / "int8.onnx"
        deployed = Deployed(convert(one.made["grid"]), "nchw-float32")
        onnx_file.write(deployed, one.contract, OPSET, path)
        one.made["export apart"] = compared(deployed, path, one, "int8")
        one.made["int8"] = onnx.load(path)
    return one.made["int8"]


def placed_for(target: str) -> Callable[[Subject], dict[str, Any]]:
    def step(one: Subject) -> dict[str, Any]:
        model = exported(one)
        found = on(target, model, one, one.made["grid answers"])
        return {**found, "export": one.made["export apart"]}

    return step


def on(target: str, model: onnx.ModelProto, one: Subject, expected: NDArray[np.float32]) -> dict[str, Any]:
    """A target's file of an int8 file: what runs in int8, and how far its answers are from the expected ones."""
    profile = profile_of(target)
    file = derived(model, "int8", profile, [])
    path, options = one.folder / f"{target}.onnx", {"threads": 1, "precision": "int8"}
    onnx.checker.check_model(file.model, full_check=True)
    apart = distance(expected, exactly(file.model, path, one))
    facts = backend(profile.backend).build(str(path), options, str(one.folder / "engine.onnx"))
    own = distance(one.made["float answers"], expected)
    if not apart["apart"] <= max(APART, 2 * own["apart"]):
        raise ValueError(
            f"the file's answers are {apart['apart']:.2g} of the reach from the grid's, which are {own['apart']:.2g}"
            " from float's"
        )
    floats = len(facts["float_operators"])
    return {**apart, "int8": heavy(facts), "of": heavy(facts) + floats, "left_float": file.left_float}


def heavy(facts: dict[str, Any]) -> int:
    """The convolutions and products in int8, of the facts that a backend tells of its engine."""
    kinds = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulInteger", "ConvInteger")
    named = sum(count for name, count in facts["operators"].items() if name.startswith(kinds))
    return named or (0 if any("Linear" in name for name in facts["operators"]) else facts["int8_operators"])


def profile_of(target: str) -> Profile:
    """In unsigned bytes, whatever this processor: answers are compared operator by operator, where none saturate."""
    return read_profile(target).model_copy(update={"rewrite": "u8"})


def foreign_file(one: Subject) -> dict[str, Any]:
    """The float file as a stranger's: a grid of its own by calibration, placed for ONNX Runtime."""
    images = one.folder / "images.npy"
    np.save(images, one.data.images[one.data.part(TRAIN)])
    order = Order(one.made["float"], images, [profile_of("cpu")])
    quantizer = Quantizer(onnx.load(one.made["float"]), one.contract, order)
    made = quantizer.files(Part(images, None), Budgets({}))["int8"]
    expected = exactly(made, one.folder / "foreign.onnx", one)
    found = on("cpu", made, one, expected)
    return {**found, "apart": distance(one.made["float answers"], expected)["apart"]}


def exactly(model: onnx.ModelProto, path: Path, one: Subject) -> NDArray[np.float32]:
    """A file's answers, operator by operator; it is written to ``path``."""
    onnx.save(model, path)
    run = backend(REFERENCE).load(str(path), {"threads": 1, "exact": True})
    return run({one.contract.input: one.test_images})[one.contract.output]


def tflite(one: Subject) -> dict[str, Any]:
    path = one.folder / "model.tflite"
    graph: fx.GraphModule = convert(one.made["grid"], fold=False)
    deployed = Deployed(graph, "nchw-float32")
    tflite_file.write(deployed, one.contract, True, path)
    return {"apart": compared(deployed, path, one, "int8")}


# A step, what it does, and the steps whose work it needs.
STEPS: dict[str, tuple[Callable[[Subject], dict[str, Any]], tuple[str, ...]]] = {
    "check": (check, ()),
    "float": (float_export, ("check",)),
    "ptq": (calibrate, ("check",)),
    "qat": (train_on_grid, ("ptq",)),
    "prune": (prune, ("check",)),
    "onnxruntime": (placed_for("cpu"), ("ptq",)),
    "openvino": (placed_for("openvino"), ("ptq",)),
    "foreign": (foreign_file, ("float", "ptq")),
    "tflite": (tflite, ("ptq",)),
}


def through(name: str, chosen: tuple[str, ...] = tuple(STEPS)) -> Iterator[tuple[str, dict[str, Any]]]:
    """A network through all steps: the name of each, and what came of it."""
    with tempfile.TemporaryDirectory(prefix="strangers-") as folder:
        one, states = Subject(name, Path(folder)), dict[str, str]()
        for step, (work, needs) in STEPS.items():
            if step not in chosen:
                continue
            if any(states.get(need) != "ok" for need in needs):
                cell: dict[str, Any] = {"state": "not reached"}
            else:
                try:
                    cell = {"state": "ok", **work(one)}
                except Refusal as refusal:
                    cell = {"state": "refused" if step in DOOR else "finding", "line": first_line(refusal)}
                except Exception as error:  # whatever a step meets: that is what is looked for
                    cell = {"state": "finding", "line": f"{type(error).__name__}: {first_line(error)}"}
            states[step] = cell["state"]
            yield step, cell


def main(name: str, file: str) -> None:
    """A subject's cells into a file, one a line; what libraries print is not of the table."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S + 1))
    with open(os.devnull, "w") as nowhere, Path(file).open("w", encoding="utf-8") as kept:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        os.environ["TMPDIR"] = str(Path(file).parent)
        for step, cell in through(name):
            print(json.dumps([step, cell]), file=kept, flush=True)
