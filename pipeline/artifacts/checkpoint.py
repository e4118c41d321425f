"""A trained network on disk: how to build it, its tensors, and the user's code that it is built by.

To build it again: the factory makes the network, the edits are applied in order, the tensors are loaded. An edit is
a small JSON table with a name of ``EDITS``. The files of a user's code and those that its arguments name lie in the
same folder, so what is loaded is what was trained, wherever the user's own files have gone since. JSON and
safetensors, never a pickle.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.artifacts.weights import Fitted, fit, load_tensors, read_weights
from pipeline.data.decoded import Facts, ImageShape, of_channels
from pipeline.engine.job import ARGUMENT, CODE, code_folder, code_of, with_files
from pipeline.models.answers import Choice, check_answers, choose
from pipeline.models.catalogue import Built, build
from pipeline.models.feature_levels import find_levels, heads_of
from pipeline.models.tapped_model import Model
from pipeline.models.training_only import auxiliary_modules, drop, fold, folded
from pipeline.pruning.shapes import resize
from pipeline.quantization.ptq import prepare
from pipeline.recipe.recipe import teacher_names
from pipeline.recipe.schema import Network
from pipeline.tasks import TASKS
from pipeline.user_code import only_reading
from targets.errors import Refusal, unknown


@dataclass(frozen=True)
class Checkpoint:
    """What a network is, without its tensors."""

    network: str
    arguments: dict[str, Any]
    classes: int  # or how many numbers else it answers with, to an image
    shape: ImageShape
    mean: Sequence[float]
    std: Sequence[float]
    taps: Sequence[str]
    head: str = ""
    exact: bool = False
    choice: Choice = field(default_factory=Choice)
    edits: Sequence[dict[str, Any]] = ()
    # The files that it is built from, by the names that they have as a stage's inputs.
    files: Mapping[str, Path] = field(default_factory=dict, compare=False)

    def build(self) -> nn.Module:
        """The network with fresh tensors, its edits applied."""
        code, arguments = code_folder(code_of(self.files)), with_files(self.arguments, self.files)
        # Given tensors are in the checkpoint: they are not fetched again.
        fresh = {name: value for name, value in arguments.items() if name not in ("weights", "pretrained")}
        arguments = fresh if code is None else arguments
        network = build(self.network, code, self.classes, arguments, "network", self.shape[0]).network
        choose(network, self.choice)
        model: nn.Module = Model(network, self.mean, self.std, self.taps, self.head, self.exact)
        for edit in self.edits:
            model = EDITS[edit["edit"]](model, self, edit)
        return model

    def edited(self, **edit: Any) -> Checkpoint:
        return replace(self, edits=(*self.edits, edit))


@dataclass(frozen=True)
class Begun:
    """A recipe's network before its training, and what was taken of given weights."""

    checkpoint: Checkpoint
    model: Model
    fitted: Fitted | None = None
    notes: Sequence[str] = ()

    @property
    def given(self) -> dict[str, Any] | None:
        return asdict(self.fitted) if self.fitted is not None else None


def begin(section: Network, facts: Facts, inputs: Mapping[str, Path], where: str) -> Begun:
    """A recipe's network, with its given weights or fresh ones, checked against the data. Raises Refusal."""
    wanted, files = TASKS[facts.task].answer(facts.classes, facts.shape), code_of(inputs)
    classes = wanted[0]
    folder = code_folder(files)
    with only_reading({**files, **inputs}, folder, where):
        arguments = with_files(section.arguments, inputs)
        built = build(section.network, folder, classes, arguments, where, facts.shape[0])
    network, fitted = built.network, None
    choice = check_answers(network, facts.shape, wanted, where, section.output)
    choose(network, choice)
    given = read_weights(inputs["weights"], f"{where}.weights") if "weights" in inputs else built.tensors
    if given is not None:
        heads = heads_of(network, facts.shape, classes)
        fitted = fit(network, given, heads, f"{where}.weights{path_of(inputs)}")
    found = find_levels(network, facts.shape)
    taps = section.taps or found.taps
    modules = dict(network.named_modules())
    for tap in taps:
        if tap not in modules:
            raise unknown("module", tap, modules, f"{where}.taps")
    mean, std = normalisation(section, built, facts, where)
    kept = {name: path for name, path in inputs.items() if name.startswith((CODE, ARGUMENT))}
    described = Checkpoint(
        section.network,
        section.arguments,
        classes,
        facts.shape,
        mean,
        std,
        taps,
        found.head,
        found.exact,
        choice,
        files=kept,
    )
    model = Model(network, mean, std, taps, found.head, found.exact)
    return Begun(described, model, fitted, built.notes)


def fresh(section: Network, facts: Facts, inputs: Mapping[str, Path], name: str) -> Model:
    """A network to train beside a recipe's, fresh: one of the same kind ("student"), or another by its name."""
    chosen = Network(network=name)
    if name == "student":
        chosen = section.model_copy(update={"weights": None})
        inputs = {name: path for name, path in inputs.items() if name != "weights"}
    return begin(chosen, facts, inputs, f"peer {name}").model


def normalisation(
    section: Network, built: Built, facts: Facts, where: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread a channel: the recipe's, or what came with the network, or the data's. Raises Refusal."""
    channels = facts.shape[0]
    for name, values in (("mean", section.mean), ("std", section.std)):
        if values is not None and len(values) != channels:
            raise Refusal(f"{where}.{name}: {len(values)} numbers; the images have {channels} channels")
    mean, std = section.mean or built.mean or facts.mean, section.std or built.std or facts.std
    return of_channels(mean, channels), of_channels(std, channels)


def path_of(inputs: Mapping[str, Path]) -> str:
    return f": {inputs['weights']}" if "weights" in inputs else ""


def quantized(model: nn.Module, checkpoint: Checkpoint, edit: Mapping[str, Any]) -> nn.Module:
    return prepare(model, checkpoint.shape)


def cut(model: nn.Module, checkpoint: Checkpoint, edit: Mapping[str, Any]) -> nn.Module:
    assert isinstance(model, Model), "channels are cut before the network is quantized"
    resize(model.network, edit["shapes"])
    return model


def dropped(model: nn.Module, checkpoint: Checkpoint, edit: Mapping[str, Any]) -> nn.Module:
    assert isinstance(model, Model), "auxiliary heads are dropped before the network is quantized"
    drop(model.network, edit["modules"])
    return model


def without_branches(model: nn.Module, checkpoint: Checkpoint, edit: Mapping[str, Any]) -> nn.Module:
    assert isinstance(model, Model), "branches are folded before the network is quantized"
    fold(model.network.eval())
    return model


EDITS: dict[str, Callable[[nn.Module, Checkpoint, Mapping[str, Any]], nn.Module]] = {
    "quantize": quantized,
    "cut": cut,
    "drop": dropped,
    "fold": without_branches,
}


@dataclass(frozen=True)
class Left:
    """A network that has left its training, and what is to be said of it."""

    checkpoint: Checkpoint
    model: Model
    note: str


def leave_training(described: Checkpoint, model: Model) -> Left:
    """The network without its auxiliary heads, its training branches folded; ``model`` loses its heads."""
    modules = auxiliary_modules(model.network, described.choice, described.shape)
    if modules:
        drop(model.network, modules)
        described = described.edited(edit="drop", modules=modules)
    made, note = folded(model, described.shape)
    if made is None:
        return Left(described, model, note)
    return Left(described.edited(edit="fold"), made, note)


def save(folder: Path, checkpoint: Checkpoint, model: nn.Module) -> None:
    save_file(tensors_of(model), folder / "model.safetensors")
    for name, path in checkpoint.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    table = {**asdict(checkpoint), "files": sorted(checkpoint.files)}
    (folder / "checkpoint.json").write_text(json.dumps(table, indent=1))


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Cloned, because safetensors takes no two names for one memory (tied weights)."""
    tensors: Mapping[str, Tensor] = model.state_dict()
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def read(folder: Path) -> Checkpoint:
    raw = json.loads((folder / "checkpoint.json").read_text())
    if "choice" not in raw:
        raise Refusal(f"{folder}: a checkpoint of an older Retort; remove it and run again")
    files = {name: folder / name for name in raw["files"]}
    if "size" in raw:  # of an older Retort, whose images were square and in RGB
        raw["shape"] = (3, raw["size"], raw.pop("size"))
    return Checkpoint(
        **{**raw, "shape": tuple(raw["shape"]), "choice": Choice(**raw["choice"]), "files": files}
    )


def load(folder: Path) -> nn.Module:
    """The trained network, in evaluation mode."""
    model = read(folder).build()
    load_tensors(model, load_file(folder / "model.safetensors"))
    return model.eval()


def load_teachers(parents: Mapping[str, Path]) -> list[Model]:
    """The teachers among a stage's parents, in the recipe's order."""
    return [load_model(parents[name]) for name in teacher_names(parents)]


def load_model(folder: Path) -> Model:
    """A network in float."""
    model = load(folder)
    assert isinstance(model, Model), "it was not quantized"
    return model


def below(inputs: Mapping[str, Path], start: str) -> dict[str, Path]:
    """The inputs of one network among those of several, without what their names begin with."""
    return {name.removeprefix(start): path for name, path in inputs.items() if name.startswith(start)}
