"""How a range becomes bytes: the scale and the zero point, as a processor's int8 kernels want them.

ONNX Runtime on x86 has fused int8 kernels for unsigned activations only: u8. What cannot be negative gets zero
point 0 and the same range in twice as many steps; what has a low bound, as HardSwish's -0.375, gets just that
range; any other tensor keeps its trained grid to the bit, with zero point 128.

Without VNNI the products of u8 and s8 are added in pairs in 16 bits and saturate. There the narrow form keeps
what is multiplied by weights to values up to 128 (2 · 128 · 127 fits). Left in s8 the runtime would make u8 of it
by itself.

On Arm there are kernels for s8, but a ReLU before a grid disappears into it only where the zero point is the
type's lowest number; else it holds its convolution in float. So what cannot be negative gets zero point -128
there: s8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from targets.convert.grid import STEPS, Range

WIDEN = np.float32(127) / np.float32(255)
WORTH = (
    64  # trained steps below zero: with more of them, a range of its own gains less than a quarter of a step
)
Bytes = tuple[np.float32, Any]  # scale and zero point


@dataclass(frozen=True)
class Form:
    """``kind``: the type of the bytes. ``narrow``: what weights multiply keeps to 128 steps."""

    kind: type[np.int8] | type[np.uint8] = np.int8
    asymmetric: bool = False
    narrow: bool = False

    def bytes_of(self, known: Range, multiplied: bool) -> Bytes:
        """The scale and the zero point of a tensor; ``multiplied``: weights multiply it."""
        step, lowest = np.float32(known.step), np.iinfo(self.kind).min
        if not self.asymmetric:
            return step, self.kind(0)
        narrow = self.narrow and multiplied
        if known.low >= 0:
            return (step if narrow else step * WIDEN), self.kind(lowest)
        if known.low <= -WORTH * known.step:
            if self.kind is np.int8:
                return step, self.kind(0)
            return (step * np.float32(2), self.kind(64)) if narrow else (step, self.kind(128))
        scale = (STEPS * known.step - known.low) / (128 if narrow else 255)
        return np.float32(scale), self.kind(lowest + round(-known.low / scale))

    def reach(self, known: Range, multiplied: bool) -> tuple[float, float]:
        """The lowest and the highest number that the bytes can hold."""
        (scale, zero), ends = self.bytes_of(known, multiplied), np.iinfo(self.kind)
        return float(scale) * (ends.min - int(zero)), float(scale) * (ends.max - int(zero))


FORMS = {
    "none": Form(),
    "u8": Form(np.uint8, asymmetric=True),
    "u8-narrow": Form(np.uint8, asymmetric=True, narrow=True),
    "s8": Form(np.int8, asymmetric=True),
}


def choose(rewrite: str, features: Sequence[str]) -> str:
    """``auto`` as the processor's instructions want it: u8, or its narrow form where products saturate; s8 on Arm."""
    if rewrite != "auto":
        return rewrite
    if "asimd" in features:
        return "s8"
    return "u8" if {"avx512_vnni", "avx_vnni", "amx_int8"} & set(features) else "u8-narrow"
