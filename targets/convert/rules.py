"""Which operators each runtime computes in int8, and where it wants Q/DQ pairs: data that ``placement`` reads.

ONNX Runtime runs an operator in int8 only between its own pairs: a convolution needs a Q right behind it, so one
stands before each activation, and the activations are written with operators that have a kernel. OpenVINO and
TensorRT compute an activation inside the operator before it, where a pair between the two would keep them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from targets.convert.grid import SHAPES

CARRY = frozenset((*SHAPES, "Slice", "Split", "MaxPool"))


@dataclass(frozen=True)
class Rules:
    """``kernels``: the operators that run in int8 between pairs; None: the runtime finds that out, so every rounded
    tensor has a pair. ``carry``: those that pass bytes on as they are. ``rewrites``: names of ``rewrites.REWRITES``,
    applied before pairs are placed; ``spellings``: others, applied after that, for what the runtime knows by its
    parts. ``swallowed``: activations that are computed inside the operator before them. ``bias``: biases
    are in int32.
    """

    kernels: frozenset[str] | None = None
    carry: frozenset[str] = CARRY
    rewrites: tuple[str, ...] = ()
    spellings: tuple[str, ...] = ()
    swallowed: frozenset[str] = frozenset()
    bias: bool = False


UNARY = frozenset(
    ("HardSwish", "HardSigmoid", "Sigmoid", "Gelu", "Tanh", "LeakyRelu", "PRelu", "Elu", "Mish", "Softplus")
)
ONNXRUNTIME = Rules(
    kernels=frozenset(
        ("Conv", "Gemm", "Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu")
    ),
    rewrites=("zero_pad", "hard_activation", "gelu", "mean_of_map", "linear"),
    bias=True,
)
FUSING = Rules(swallowed=UNARY)
# OpenVINO fuses HardSwish as x · clip(x + 3, 0, 6) / 6; of the operator of this name it makes a HardSigmoid apart.
OPENVINO = Rules(swallowed=UNARY, spellings=("spelled_out",))
EVERYWHERE = Rules()  # as it was exported: a .tflite is made of torch's graph, which has every pair
