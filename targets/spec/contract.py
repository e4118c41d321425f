"""The input contract: what to feed an ONNX file, and what its answers are called. Our files carry it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from math import isfinite
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from targets.errors import Refusal, first_line
from targets.image_folder import MOST_PIXELS, Decoding, Interpolation, Resize, Size
from targets.runner.images import Feed
from targets.spec.output import check_output, chosen_output
from targets.tasks import TASKS, task_of

KEY = "retort.contract"
Layout = Literal["nchw-float32", "nhwc-uint8"]
Channels = Literal["rgb", "bgr", "grey"]
Range = Literal["0..1", "0..255", "-1..1"]
MOST_SIDE = 16_384  # pixels


@dataclass(frozen=True)
class Contract:
    """Images of ``size`` (height, width): float32 (N, C, H, W), or uint8 (N, H, W, C); C is 3, of grey 1.

    ``range``, ``mean`` and ``std`` are for files of others, which neither scale nor normalise inside; ours do.
    ``mean`` and ``std`` are in units of 0..1 and in the order R, G, B, whatever ``range`` and ``channels`` are.
    ``resize`` and ``interpolation`` say how an image is brought to its size, as in ``Decoding``.
    """

    layout: Layout
    size: Size
    classes: tuple[str, ...]
    input: str = "images"
    output: str = "logits"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: Channels = "rgb"
    range: Range = "0..1"
    resize: Resize | None = None
    interpolation: Interpolation = "bilinear"
    task: str = "classification"

    @property
    def decoding(self) -> Decoding:
        """How the images are stored that the runner is given: in RGB, where the file wants BGR."""
        channels: Literal["rgb", "grey"] = "grey" if self.channels == "grey" else "rgb"
        return Decoding(self.size, channels, self.resize, self.interpolation)

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """(N, H, W, C) uint8 → what a file of ours takes."""
        if self.layout == "nhwc-uint8":
            return np.ascontiguousarray(images)
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)

    def black(self, count: int) -> NDArray[np.uint8]:
        """So many black images (N, H, W, C)."""
        return np.zeros((count, *self.decoding.shape), np.uint8)

    def dims(self) -> tuple[int, int, int]:
        """The input's shape without the batch, in the order of the layout."""
        high, wide, channels = self.decoding.shape
        return (channels, high, wide) if self.layout == "nchw-float32" else (high, wide, channels)

    def shape(self, batch: int) -> str:
        """The input of a batch as trtexec writes it: ``images:1x3x32x32``."""
        return f"{self.input}:{'x'.join(map(str, (batch, *self.dims())))}"

    def feed(self) -> Feed:
        """What the runner needs of it."""
        return {
            "layout": self.layout,
            "input": self.input,
            "output": self.output,
            "mean": self.mean,
            "std": self.std,
            "channels": self.channels,
            # Of bytes there is one range, which older files and ours do not name.
            "range": self.range if self.layout == "nchw-float32" else "0..255",
        }

    @classmethod
    def of(cls, raw: Any) -> Contract:
        """Of JSON; a size that is one number is of an older Retort, and square. Raises ValueError or Refusal."""
        if not isinstance(raw, Mapping):
            raise ValueError("it is no table")
        unknown = sorted(raw.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise ValueError(f"it has no {unknown[0]!r}")
        size = raw.get("size")
        try:
            table = {**raw, "size": [size, size] if isinstance(size, int) else size}
            read = typed().validate_json(json.dumps(table), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        read.check()
        return read

    def check(self) -> None:
        """Raises Refusal for sides that no image has, and for values that do not fit each other."""
        scaled = (self.resize,) if isinstance(self.resize, int) else self.resize or ()
        if not all(0 < side <= MOST_SIDE for side in (*self.size, *scaled)):
            raise Refusal(
                f"images of {self.size}, resize = {self.resize}: a side has 1 to {MOST_SIDE} pixels"
            )
        high, wide = self.size
        if high * wide > MOST_PIXELS:
            raise Refusal(f"images of {self.size}: more than {MOST_PIXELS} pixels")
        values = None if self.layout == "nhwc-uint8" else self.range
        said = Said(mean=self.mean, std=self.std, range=values)
        check_values("the input's contract", self.layout, self.channels, said)


@cache
def typed() -> TypeAdapter[Contract]:
    return TypeAdapter(Contract)


@dataclass(frozen=True)
class Said:
    """What a user says of a foreign file's input, in the words of ``Contract``; None and () where nothing is."""

    size: Size | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: Channels | None = None
    range: Range | None = None
    resize: Resize | None = None
    interpolation: Interpolation | None = None
    output: str | None = None  # of several


NOTHING = Said()


def write_contract(proto: onnx.ModelProto, contract: Contract) -> None:
    onnx.helper.set_model_props(proto, {KEY: json.dumps(asdict(contract))})


def read_contract(proto: onnx.ModelProto) -> Contract | None:
    """The contract that a file carries, if it does. Raises Refusal for one that cannot be read."""
    for prop in proto.metadata_props:
        if prop.key == KEY:
            try:
                contract = Contract.of(json.loads(prop.value))
            except (ValueError, RecursionError) as error:
                raise Refusal(
                    f"the file's {KEY} cannot be read ({first_line(error)}); export the file anew"
                ) from None
            task_of(contract.task, KEY)
            return contract
    return None


def contract_of(proto: onnx.ModelProto, where: str, said: Said) -> Contract:
    """The contract that a file carries, or that its own ends and the user say. Raises Refusal."""
    carried = read_contract(proto)
    found = carried or infer_contract(proto, where, said)
    check_output(proto, found.output, TASKS[found.task].dims, where)
    if found.input not in [value.name for value in proto.graph.input]:
        raise Refusal(
            f"{where}: its contract names the input {found.input}, which it has not; export it anew"
        )
    given = [f"--{name}" for name, value in vars(said).items() if value not in (None, ())]
    if carried and given:
        raise Refusal(f"{where}: it carries what it takes; leave out {', '.join(given)}")
    return found


def infer_contract(proto: onnx.ModelProto, where: str, said: Said) -> Contract:
    """What a foreign file's own input says. Raises Refusal where it does not say enough."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    if len(inputs) != 1 or not proto.graph.output:
        raise Refusal(f"{where}: has {len(inputs)} inputs; one of images is needed")
    kind = inputs[0].type.tensor_type
    shape = [dim.dim_value for dim in kind.shape.dim]
    if len(shape) == 4 and kind.elem_type == onnx.TensorProto.FLOAT and shape[1] in (0, 1, 3):
        layout: Layout = "nchw-float32"
        depth, sides = shape[1], shape[2:]
    elif len(shape) == 4 and kind.elem_type == onnx.TensorProto.UINT8 and shape[3] in (0, 1, 3):
        layout, depth, sides = "nhwc-uint8", shape[3], shape[1:3]
    else:
        wanted = "float32 (N,3,H,W) or (N,1,H,W) nor uint8 (N,H,W,3) or (N,H,W,1)"
        raise Refusal(f"{where}: input {inputs[0].name} is neither {wanted}")
    size = said.size or (sides[0] or sides[1], sides[1] or sides[0])
    if not all(size) or any(fixed not in (0, side) for fixed, side in zip(sides, size, strict=True)):
        raise Refusal(
            f"{where}: takes images of {sides[0] or 'any'} x {sides[1] or 'any'}; give a fitting --size, as 224 or"
            " 48x192 (height x width)"
        )
    channels = said.channels or ("grey" if depth == 1 else "rgb")
    if depth not in (0, 1 if channels == "grey" else 3):
        raise Refusal(f"{where}: takes images of {depth} channels; --channels {channels} does not fit")
    check_values(where, layout, channels, said)
    found = Contract(
        layout,
        size,
        (),
        inputs[0].name,
        chosen_output(proto, said.output, where),
        said.mean,
        said.std,
        channels,
        said.range or ("0..255" if layout == "nhwc-uint8" else "0..1"),
        said.resize,
        said.interpolation or "bilinear",
    )
    found.check()
    return found


def check_values(where: str, layout: Layout, channels: Channels, said: Said) -> None:
    """Raises Refusal where what is said of the values does not fit the input, or each other."""
    count = 1 if channels == "grey" else 3
    for name, numbers in (("mean", said.mean), ("std", said.std)):
        if len(numbers) not in (0, count):
            raise Refusal(f"{where}: --{name} has {len(numbers)} numbers; images in {channels} want {count}")
    if bool(said.mean) != bool(said.std):
        raise Refusal(f"{where}: --mean and --std go together; give 0 or 1 for what there is not")
    if not all(map(isfinite, said.mean + said.std)) or any(spread <= 0 for spread in said.std):
        raise Refusal(f"{where}: --mean and --std are finite numbers, and a std is above 0")
    if layout == "nhwc-uint8" and (said.mean or said.range not in (None, "0..255")):
        raise Refusal(f"{where}: takes uint8, which is 0..255 as it is; leave out --range, --mean and --std")
    if said.mean and said.range == "-1..1":
        raise Refusal(f"{where}: --range=-1..1 is a mean and std of 0.5 already; leave out --mean and --std")
