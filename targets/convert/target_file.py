"""The file that a target runs, derived from the one that was exported, by a named rewrite."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from targets.convert.qdq_zero_points import choose, rewritten
from targets.convert.tensorrt_lint import lint
from targets.convert.tensorrt_lowering import lowered
from targets.convert.tensorrt_parser import second_opinion
from targets.errors import Refusal
from targets.runner.backends import backend
from targets.runner.backends.trtexec import JETPACK
from targets.spec.contract import Contract
from targets.spec.profile import Profile

# By version: 11 always builds what the graph's own types say, and its tool knows these flags no more.
STRONGLY_TYPED = ("11",)
FLAGS = {"float32": ["--noTF32"], "native": ["--fp16"], "int8": ["--int8", "--fp16"]}


def rewritten_for(
    model: onnx.ModelProto, precision: str, profile: Profile, features: Sequence[str]
) -> tuple[onnx.ModelProto, str]:
    """The grid as the processor's int8 kernels want it, by the profile's rewrite."""
    form = choose(profile.rewrite, features) if precision == "int8" else "none"
    return rewritten(model, form), form


def lowered_for_tensorrt(
    model: onnx.ModelProto, precision: str, profile: Profile, features: Sequence[str]
) -> tuple[onnx.ModelProto, str]:
    """Raises Refusal for what TensorRT's parser would not take, with the node and the mend."""
    model = lowered(model, profile.tensorrt)
    findings = lint(model, profile.tensorrt)
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise Refusal(f"{profile.name}: TensorRT {profile.tensorrt} would not take it: {findings[0]}{more}")
    if precision == "native" and profile.tensorrt in STRONGLY_TYPED:
        return half(model), f"tensorrt-{profile.tensorrt}-fp16"
    return model, f"tensorrt-{profile.tensorrt}"


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in fp16 inside, float32 at its ends; a bundle's file, which is so already, stays as it is."""
    if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer):
        return model
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about weights too small for fp16, which become its smallest
        made: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True)
    return made


def trtexec(name: str, precision: str, contract: Contract, profile: Profile) -> str:
    """The command that builds and times a file by TensorRT's own tool, to see beside the runner's figures."""
    shapes = [f"--{bound}Shapes={contract.shape(profile.batch)}" for bound in ("min", "opt", "max")]
    flags = ["--noTF32"] if precision == "float32" else []
    if profile.tensorrt not in STRONGLY_TYPED:
        flags = FLAGS[precision]
    files = [f"--onnx={name}.onnx", f"--saveEngine={name}.engine", f"--exportTimes={name}.times.json"]
    return " ".join([JETPACK, *files, *flags, *shapes, "--warmUp=500", "--duration=10"])


@dataclass(frozen=True)
class Lowering:
    """How a backend's file is derived, and, where its vendor has tools for it, their word and command."""

    derive: Callable[[onnx.ModelProto, str, Profile, Sequence[str]], tuple[onnx.ModelProto, str]]
    objections: Callable[[Path], list[str] | None] = lambda path: None
    command: Callable[[str, str, Contract, Profile], str] | None = None


LOWERINGS = {
    "rewrite": Lowering(rewritten_for),
    "tensorrt": Lowering(lowered_for_tensorrt, second_opinion, trtexec),
}


def lowering_of(profile: Profile) -> Lowering:
    return LOWERINGS[backend(profile.backend).lowering]


def derived(
    model: onnx.ModelProto, precision: str, profile: Profile, features: Sequence[str]
) -> tuple[onnx.ModelProto, str]:
    """The model as the target wants it, and the name of that form; ``features`` are the processor's."""
    return lowering_of(profile).derive(model, precision, profile, features)
