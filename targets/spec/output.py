"""What a file answers: which of its outputs is judged, and whether that is one row of classes an image."""

from __future__ import annotations

import onnx

from targets.errors import Refusal, unknown

FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.BFLOAT16,
)


def chosen_output(proto: onnx.ModelProto, named: str | None, where: str) -> str:
    """The name of the output that is judged. Raises Refusal where there are several and none is named."""
    names = [value.name for value in proto.graph.output]
    if named is not None and named not in names:
        raise unknown("output", named, names, where)
    if named is None and len(names) > 1:
        told = f"{where}: it answers with {len(names)} outputs ({', '.join(names[:8])})"
        raise Refusal(f"{told}; say which holds the classes, as --output {names[-1]}")
    return named or names[0]


def check_output(proto: onnx.ModelProto, name: str, dims: int, where: str) -> None:
    """Raises Refusal where the file says of an output that it is not of floats of so many dimensions."""
    found = [value for value in proto.graph.output if value.name == name]
    if not found:
        raise Refusal(f"{where}: its contract names the output {name}, which it has not; export it anew")
    needed = "one row of classes an image is judged" if dims == 2 else f"{dims} dimensions are judged"
    kind = found[0].type
    if not kind.HasField("tensor_type"):
        raise Refusal(f"{where}: {name} is no tensor but a {kind.WhichOneof('value')}; {needed}")
    if kind.tensor_type.elem_type not in FLOATS:
        given = onnx.TensorProto.DataType.Name(kind.tensor_type.elem_type).lower()
        raise Refusal(
            f"{where}: {name} is of {given}, so no logits; {needed}: leave out an ArgMax at the end"
        )
    shape = [dim.dim_value or dim.dim_param or "?" for dim in kind.tensor_type.shape.dim]
    if kind.tensor_type.HasField("shape") and len(shape) != dims:
        raise Refusal(f"{where}: answers of shape ({', '.join(map(str, shape))}); {needed}")


def check_batch(proto: onnx.ModelProto, input_name: str, batch: int, where: str) -> None:
    """Raises Refusal where the file takes batches of one size alone, and that is another."""
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name == input_name and dims and dims[0].dim_value not in (0, batch):
            fixed = dims[0].dim_value
            told = (
                f"{where}: takes batches of {fixed} images and no other, and {batch} would be asked at once"
            )
            raise Refusal(
                f"{told}; export it with a free batch, or say batch = {fixed} in a target's profile"
            )
