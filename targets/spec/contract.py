"""The input contract: what to feed an ONNX file, and what its answers are called. Our files carry it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from targets.errors import Refusal

KEY = "retort.contract"
Layout = Literal["nchw-float32", "nhwc-uint8"]


@dataclass(frozen=True)
class Contract:
    """RGB images of size × size: float32 (N, 3, H, W) in 0..1, or uint8 (N, H, W, 3).

    ``mean`` and ``std`` are for files of others, which do not normalise inside; ours do.
    """

    layout: Layout
    size: int
    classes: tuple[str, ...]
    input: str = "images"
    output: str = "logits"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """(N, H, W, 3) uint8 RGB → what a file of ours takes."""
        if self.layout == "nhwc-uint8":
            return np.ascontiguousarray(images)
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)

    def shape(self, batch: int) -> str:
        """The input of a batch as trtexec writes it: ``images:1x3x32x32``."""
        sides = (self.size, self.size)
        dims = (batch, 3, *sides) if self.layout == "nchw-float32" else (batch, *sides, 3)
        return f"{self.input}:{'x'.join(map(str, dims))}"

    def feed(self) -> dict[str, Any]:
        """What the runner needs of it."""
        return {name: getattr(self, name) for name in ("layout", "input", "output", "mean", "std")}


def write_contract(proto: onnx.ModelProto, contract: Contract) -> None:
    onnx.helper.set_model_props(proto, {KEY: json.dumps(asdict(contract))})


def read_contract(proto: onnx.ModelProto) -> Contract | None:
    """The contract that a file carries, if it does. Raises Refusal for one that cannot be read."""
    for prop in proto.metadata_props:
        if prop.key == KEY:
            try:
                raw = json.loads(prop.value)
                sequences = {name: tuple(raw[name]) for name in ("classes", "mean", "std")}
                return Contract(**{**raw, **sequences})
            except (ValueError, TypeError, KeyError) as error:
                raise Refusal(f"the file's {KEY} cannot be read ({error}); export the file anew") from None
    return None


def infer_contract(
    proto: onnx.ModelProto, where: str, size: int | None, mean: Sequence[float], std: Sequence[float]
) -> Contract:
    """What a foreign file's own input says. Raises Refusal where it does not say enough."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    if len(inputs) != 1 or not proto.graph.output:
        raise Refusal(f"{where}: has {len(inputs)} inputs; one of images is needed")
    kind = inputs[0].type.tensor_type
    shape = [dim.dim_value for dim in kind.shape.dim]
    if len(shape) == 4 and kind.elem_type == onnx.TensorProto.FLOAT and shape[1] in (0, 3):
        layout: Layout = "nchw-float32"
        sides = shape[2:]
    elif len(shape) == 4 and kind.elem_type == onnx.TensorProto.UINT8 and shape[3] in (0, 3):
        layout, sides = "nhwc-uint8", shape[1:3]
    else:
        raise Refusal(f"{where}: input {inputs[0].name} is neither float32 (N,3,H,W) nor uint8 (N,H,W,3)")
    side = size or sides[0]
    if not side or any(fixed not in (0, side) for fixed in sides):
        raise Refusal(
            f"{where}: takes images of {sides[0] or 'any'} x {sides[1] or 'any'}; give a fitting --size"
        )
    return Contract(layout, side, (), inputs[0].name, proto.graph.output[0].name, tuple(mean), tuple(std))
