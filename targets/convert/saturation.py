"""Whether an int8 file could go wrong on an x86 processor without VNNI, whose products are added in 16 bits.

There two products of unsigned activations and signed weights are added in a signed 16-bit number, which saturates
(Intel's manual on VPMADDUBSW). Told is what the weights allow, whatever the images: a bound, and no count of errors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from targets.convert.graph import Graph
from targets.runner.backends.ort import HEAVY

LIMIT = 2**15 - 1
# The highest number of an activation: the narrow form keeps to the trained range.
HIGHEST = {"u8-narrow": 128}


def saturation(model: onnx.ModelProto, form: str) -> dict[str, int]:
    """How many of the layers in int8 could saturate: ``{"layers": …, "of": …}``."""
    graph, could, of = Graph(model), 0, 0
    quantized = {
        one.node.output[0]: one for one in graph.quantizers if one.node.op_type == "DequantizeLinear"
    }
    for node in graph.nodes:
        if node.op_type in HEAVY and len(node.input) > 1:
            flow, weight = (quantized.get(name) for name in node.input[:2])
            if flow is not None and weight is not None and weight.weight:
                values = graph.array(weight.node.input[0])
                of += 1
                if flow.kind == TensorProto.UINT8 and values is not None:
                    could += bound(values, weight.axis) * HIGHEST.get(form, 255) > LIMIT
    return {"layers": could, "of": of}


def bound(weights: NDArray[Any], axis: int | None) -> int:
    """The largest sum of two weights of one sign in an output channel."""
    rows = np.moveaxis(weights.astype(np.int64), axis or 0, 0).reshape(weights.shape[axis or 0], -1)
    ordered = np.sort(rows, axis=1)
    pairs = ordered[:, -2:].sum(1), -ordered[:, :2].sum(1)
    return int(max(side.max() for side in pairs))
