"""Given weights: read from the files that tools write, and fitted to a network of perhaps another number of classes.

Read are safetensors (also in shards, by their index) and what torch.save wrote, without running any code of the file.
The table of tensors is found below the usual names, without the prefixes that wrappers leave.
"""

from __future__ import annotations

import argparse
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from targets.errors import Refusal, first_line

Tensors = dict[str, Tensor]
# Where tools keep the table. An average of the weights comes first: it is what its training was judged by.
TABLES = (
    *("state_dict_ema", "model_ema", "ema"),
    *("state_dict", "model_state_dict", "model", "net", "network", "weights"),
)
WRAPPERS = ("module", "_orig_mod")  # DataParallel's and torch.compile's parts of a name
INDEX = ".index.json"
SHOWN = 4  # names of each side in a message


@dataclass(frozen=True)
class Fitted:
    """What was taken of given weights: how many tensors, and which layers are new, each with the reason."""

    taken: int
    of: int
    new: dict[str, str]


def read_weights(path: Path, where: str) -> Tensors:
    """The table of tensors of a file. Raises Refusal for what is none, or holds more than tensors."""
    try:
        if path.name.endswith(INDEX):
            return read_shards(path)
        if path.suffix == ".safetensors":
            return load_file(path)
        # torchvision's reference training keeps its command line beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            raw = torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # whatever a broken or hostile file makes the readers raise
        mend = ""
        if "weights_only" in str(error) or "Unsupported" in str(error):
            mend = "; it holds Python objects, which are not run: save torch.save(network.state_dict(), FILE)"
        raise Refusal(f"{where}: {path} cannot be read as weights: {first_line(error)}{mend}") from None
    found = table_of(raw)
    if found is None:
        raise Refusal(f"{where}: {path} holds no table of tensors (nor one under {', '.join(TABLES)})")
    return found


def read_shards(index: Path) -> Tensors:
    """All shards that an index names; they lie beside it."""
    names = set(json.loads(index.read_text())["weight_map"].values())
    if any(Path(name).name != name for name in names):
        raise ValueError("its index names files outside its folder")
    return {
        name: tensor for shard in sorted(names) for name, tensor in load_file(index.parent / shard).items()
    }


def table_of(raw: Any) -> Tensors | None:
    """The table itself, or the one below the first of ``TABLES`` that has any."""
    if not isinstance(raw, Mapping):
        return None
    for name in TABLES:
        inner = table_of(raw[name]) if isinstance(raw.get(name), Mapping) else None
        if inner:
            return inner
    found = {
        name: value for name, value in raw.items() if isinstance(name, str) and isinstance(value, Tensor)
    }
    # Tables are of tensors: a training's own numbers and states beside them are none.
    if not found or any(isinstance(value, Mapping) for value in raw.values()):
        return None
    versioned = OrderedDict(found)
    versioned._metadata = getattr(raw, "_metadata", None)  # type: ignore[attr-defined]
    return versioned


def renamed(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensors:
    """The tensors under the network's names: without wrappers' parts, and a common beginning if that fits better."""
    plain = {
        ".".join(p for p in name.split(".") if p not in WRAPPERS): value for name, value in given.items()
    }
    choices = [(table, start) for table in (dict(given), plain) for start in beginnings(table)]
    table, best = max(choices, key=lambda choice: fits(choice[0], choice[1], wanted))
    return {name.removeprefix(best): value for name, value in table.items() if name.startswith(best)}


def beginnings(given: Mapping[str, Tensor]) -> Iterator[str]:
    """ "", and what any name begins with, to a dot."""
    yield ""
    yield from sorted({name[: at + 1] for name in given for at, letter in enumerate(name) if letter == "."})


def fits(given: Mapping[str, Tensor], start: str, wanted: Mapping[str, Tensor]) -> int:
    return sum(name.startswith(start) and name.removeprefix(start) in wanted for name in given)


def fit(network: nn.Module, given: Mapping[str, Tensor], heads: Set[str], where: str) -> Fitted:
    """Put given tensors into a network. Of ``heads``, layers that give the answers, one for other classes stays new.

    Raises Refusal where anything else is missing, has another shape, or is too many.
    """
    wanted = network.state_dict()
    tensors = renamed(given, wanted)
    new: dict[str, str] = {}
    for name, tensor in wanted.items():
        mine = tensors.get(name)
        if mine is None and name.endswith("num_batches_tracked"):
            tensors[name] = tensor
        elif mine is None:
            raise Refusal(f"{where}: they have no tensor '{name}'; {sides(tensors, wanted)}")
        elif mine.shape != tensor.shape:
            layer = name.rpartition(".")[0]
            if layer not in heads or mine.shape[1:] != tensor.shape[1:]:
                shapes = f"{tuple(mine.shape)}, the network wants {tuple(tensor.shape)}"
                raise Refusal(f"{where}: tensor '{name}' is {shapes}")
            new[layer] = f"{len(mine)} classes, here {len(tensor)}"
    for name, tensor in wanted.items():
        if name.rpartition(".")[0] in new:
            tensors[name] = tensor
    extra = sorted(set(tensors) - set(wanted))
    if extra:
        raise Refusal(
            f"{where}: {len(extra)} tensors too many, such as '{extra[0]}'; {sides(tensors, wanted)}"
        )
    load_tensors(network, tensors, getattr(given, "_metadata", None))
    kept = [name for name in wanted if name.rpartition(".")[0] not in new]
    return Fitted(len(kept), len(wanted), new)


def sides(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """The first names of both, so that one sees what is another network's."""
    shown = (
        ", ".join(sorted(names)[:SHOWN]) for names in (set(given) - set(wanted), set(wanted) - set(given))
    )
    only_given, only_wanted = shown
    return f"only in the file: {only_given or 'nothing'}; only in the network: {only_wanted or 'nothing'}"


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], versions: Any = None) -> None:
    """All of a module's tensors. Without ``versions`` its layers' formats are those of the module itself.

    Without a version a layer would take the tensors for those of its oldest release (torchvision's MNASNet does).
    """
    versioned = OrderedDict(tensors)
    versioned._metadata = versions or module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(versioned)
