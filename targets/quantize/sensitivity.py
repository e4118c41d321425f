"""Which layers stay float, where int8 as a whole changes too many answers.

Each layer is quantized alone, and the layers are ranked by how far that takes the answers from float's. Then the
first one, two, four, eight … of the rank stay float, until the rest in int8 loses few enough answers. That is as
many measurements as there are layers on a few images, and a handful on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from targets.convert.grid import reads
from targets.progress import track
from targets.quantize.exchange import exchange
from targets.quantize.policy import weight_of

Answers = Callable[[onnx.ModelProto], NDArray[np.float32]]


def layers(model: onnx.ModelProto, steps: Mapping[str, float]) -> dict[str, str]:
    """The convolutions and linear layers that read a rounded tensor: its name, by the layer's."""
    nodes = [node for node in ir.from_proto(model).graph if weight_of(node) is not None]
    return {str(node.name): str(reads(node).name) for node in nodes if reads(node).name in steps}


def ranked(model: onnx.ModelProto, steps: Mapping[str, float], few: Answers) -> list[str]:
    """The layers' names, that first which takes the answers to a few images the furthest from float's."""
    found, expected = layers(model, steps), few(model)
    apart = {}
    for name in track(list(found), "layers"):
        alone = exchange(model, {found[name]: steps[found[name]]}, frozenset(found) - {name})
        apart[name] = float(np.square(few(alone) - expected).mean())
    return sorted(apart, key=apart.__getitem__, reverse=True)


def growing(rank: list[str]) -> Iterator[list[str]]:
    """The first one, two, four … of a rank, up to half of it."""
    count = 1
    while count <= len(rank) // 2:
        yield rank[:count]
        count *= 2


def kept_float(
    model: onnx.ModelProto,
    steps: Mapping[str, float],
    few: Answers,
    lost: Callable[[onnx.ModelProto], float],
    most: float,
) -> list[str] | None:
    """The layers that stay float so that ``lost`` is at most ``most``: none where int8 as a whole keeps to it.

    None where half of the layers in float would not do.
    """
    if lost(exchange(model, steps)) <= most:
        return []
    for names in growing(ranked(model, steps, few)):
        if lost(exchange(model, steps, frozenset(names))) <= most:
            return names
    return None
