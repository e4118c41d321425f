"""Nodes of a user's file that fit a known fault, and whether the runtime that is installed here has it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from targets.convert.graph import every_graph, named, opset_of
from targets.devices.connect import open_device
from targets.diagnose.corpus import CORPUS
from targets.diagnose.known import known_faults
from targets.errors import Refusal
from targets.spec.profile import Profile


@dataclass(frozen=True)
class Trouble:
    """A fault and the nodes that fit it; ``here``: whether this machine's runtime has it, None if not tried."""

    fault: str
    wrong: str
    source: str
    nodes: list[str]
    here: bool | None


def troubles(model: onnx.ModelProto, profile: Profile) -> list[Trouble]:
    """The known faults that a file's nodes fit. The faults' own graphs are run where the target's runtime is here."""
    opset = opset_of(model).version
    nodes = [node for graph in every_graph(model.graph) for node in graph.node]
    fits = {
        name: [named(node) for node in nodes if fault.found(node, opset)]
        for name, fault in CORPUS.items()
        if fault.found is not None
    }
    fits = {name: found for name, found in fits.items() if found}
    here = tried(profile, list(fits)) if fits and not profile.remote else {}
    return [
        Trouble(name, CORPUS[name].wrong, CORPUS[name].source, found, here.get(name))
        for name, found in fits.items()
    ]


def tried(profile: Profile, names: list[str]) -> dict[str, bool]:
    try:
        with open_device("local") as device:
            known = known_faults(device, profile.backend, {name: CORPUS[name] for name in names})
    except Refusal:  # it is not installed here
        return {}
    return {one.name: one.state == "here" for one in known}
