"""A trained network on disk: how to build it, and its tensors. JSON and safetensors, never a pickle.

To build it again: the factory makes the network, the edits are applied in order, the tensors are loaded.
An edit is a small JSON table with a name of ``EDITS``.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.data.decoded import Facts
from pipeline.models.catalogue import build
from pipeline.models.tapped_model import Model, check_answers, find_taps
from pipeline.pruning.channels import resize
from pipeline.quantization.ptq import prepare
from pipeline.recipe.schema import Network, teacher_names
from targets.errors import Refusal, unknown


@dataclass(frozen=True)
class Checkpoint:
    """What a network is, without its tensors."""

    network: str
    arguments: dict[str, Any]
    source: str | None
    classes: int
    size: int
    mean: Sequence[float]
    std: Sequence[float]
    taps: Sequence[str]
    edits: Sequence[dict[str, Any]] = ()

    def build(self) -> nn.Module:
        """The network with fresh tensors, its edits applied."""
        source = Path(self.source) if self.source else None
        network = build(self.network, source, self.classes, self.arguments, "network")
        model: nn.Module = Model(network, self.mean, self.std, self.taps)
        for edit in self.edits:
            model = EDITS[edit["edit"]](model, self, edit)
        return model

    def edited(self, **edit: Any) -> Checkpoint:
        return replace(self, edits=(*self.edits, edit))


def begin(section: Network, facts: Facts, inputs: Mapping[str, Path], where: str) -> tuple[Checkpoint, Model]:
    """A recipe's network, with its given weights or fresh ones, checked against the data."""
    source = inputs.get("source")
    network = build(section.network, source, len(facts.classes), section.arguments, where)
    check_answers(network, facts.size, len(facts.classes), where)
    if "weights" in inputs:
        load_weights(network, inputs["weights"], f"{where}.weights")
    taps = section.taps or find_taps(network, facts.size)
    modules = dict(network.named_modules())
    for tap in taps:
        if tap not in modules:
            raise unknown("module", tap, modules, f"{where}.taps")
    described = Checkpoint(
        network=section.network,
        arguments=section.arguments,
        source=str(source) if source else None,
        classes=len(facts.classes),
        size=facts.size,
        mean=section.mean or facts.mean,
        std=section.std or facts.std,
        taps=taps,
    )
    return described, Model(network, described.mean, described.std, described.taps)


def quantized(model: nn.Module, checkpoint: Checkpoint, edit: Mapping[str, Any]) -> nn.Module:
    return prepare(model, checkpoint.size)


def cut(model: nn.Module, checkpoint: Checkpoint, edit: Mapping[str, Any]) -> nn.Module:
    assert isinstance(model, Model)
    resize(model.network, edit["shapes"])
    return model


EDITS: dict[str, Callable[[nn.Module, Checkpoint, Mapping[str, Any]], nn.Module]] = {
    "quantize": quantized,
    "cut": cut,
}


def save(folder: Path, checkpoint: Checkpoint, model: nn.Module) -> None:
    save_file(tensors_of(model), folder / "model.safetensors")
    (folder / "checkpoint.json").write_text(json.dumps(asdict(checkpoint), indent=1))


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Cloned, because safetensors takes no two names for one memory (tied weights)."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}


def read(folder: Path) -> Checkpoint:
    return Checkpoint(**json.loads((folder / "checkpoint.json").read_text()))


def load(folder: Path) -> nn.Module:
    """The trained network, in evaluation mode."""
    model = read(folder).build()
    load_tensors(model, load_file(folder / "model.safetensors"))
    return model.eval()


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """All of a module's tensors. The versions of its layers' formats are taken from the module itself.

    Without a version a layer takes the tensors for those of its oldest release (torchvision's MNASNet does).
    """
    versioned = OrderedDict(tensors)
    versioned._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(versioned)


def load_teachers(parents: Mapping[str, Path]) -> list[Model]:
    """The teachers among a stage's parents, in the recipe's order."""
    teachers = []
    for name in teacher_names(parents):
        model = load(parents[name])
        assert isinstance(model, Model)
        teachers.append(model)
    return teachers


def read_weights(path: Path, where: str) -> dict[str, Tensor]:
    """Weights as people have them: safetensors, or a .pth / .th read without pickle.

    A nesting under ``state_dict`` or ``model`` is undone.
    """
    try:
        raw = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # whatever a broken or hostile file makes the readers raise
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Refusal(
            f"{where}: {path} cannot be read as weights (safetensors, or tensors only): {line}"
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(raw, Mapping) and isinstance(raw.get(key), Mapping):
            raw = raw[key]
    if not isinstance(raw, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in raw.items()
    ):
        raise Refusal(f"{where}: {path} holds no table of tensors (nor one under state_dict or model)")
    return dict(raw)


def load_weights(network: nn.Module, path: Path, where: str) -> None:
    """Load a given file into a network; says the first tensor that does not fit."""
    given, wanted = read_weights(path, where), network.state_dict()
    if not any(name in wanted for name in given):  # DataParallel's prefix
        given = {name.removeprefix("module."): tensor for name, tensor in given.items()}
    for name, tensor in wanted.items():
        if name.endswith("num_batches_tracked"):
            given.setdefault(name, tensor)
        elif name not in given:
            raise Refusal(f"{where}: {path} has no tensor '{name}'; is it of another network?")
        elif given[name].shape != tensor.shape:
            shapes = f"{tuple(given[name].shape)}, the network wants {tuple(tensor.shape)}"
            raise Refusal(f"{where}: {path}: tensor '{name}' is {shapes}")
    extra = sorted(set(given) - set(wanted))
    if extra:
        raise Refusal(f"{where}: {path} has {len(extra)} tensors too many, such as '{extra[0]}'")
    load_tensors(network, given)
