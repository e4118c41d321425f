"""The file that a target runs, derived from the one that was exported, by the rules of its runtime."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from targets.convert.forms import choose
from targets.convert.int8_file import placed
from targets.convert.reasons import Operator
from targets.convert.rules import EVERYWHERE, FUSING, ONNXRUNTIME, OPENVINO, Rules
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


@dataclass(frozen=True)
class Derived:
    """A target's file, the name of its form, the convolutions and products that stay float, with the reason, and
    what was decided of every operator of the float file."""

    model: onnx.ModelProto
    form: str
    left_float: dict[str, str]
    operators: Sequence[Operator] = ()


def lowered_for_tensorrt(file: Derived, precision: str, profile: Profile) -> Derived:
    """Raises Refusal for what TensorRT's parser would not take, with the node and the mend."""
    model, form = lowered(file.model, profile.tensorrt), f"tensorrt-{profile.tensorrt}"
    findings = lint(model, profile.tensorrt)
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise Refusal(f"{profile.name}: TensorRT {profile.tensorrt} would not take it: {findings[0]}{more}")
    if precision == "native" and profile.tensorrt in STRONGLY_TYPED:
        return replace(file, model=half(model), form=f"{form}-fp16")
    return replace(file, model=model, form=form)


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in fp16 inside, float32 at its ends; a bundle's file, which is so already, stays as it is."""
    if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer):
        return model
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about weights too small for fp16, which become its smallest
        made: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True)
    OnnxModel(made).topological_sort()  # it leaves its casts at the end, where ONNX forbids them
    onnx.checker.check_model(made)
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

    rules: Rules
    form: str | None = None  # of its bytes, whatever the processor; None: the profile's rewrite says it
    finish: Callable[[Derived, str, Profile], Derived] = lambda file, precision, profile: file
    objections: Callable[[Path], list[str] | None] = lambda path: None
    command: Callable[[str, str, Contract, Profile], str] | None = None


LOWERINGS = {
    "everywhere": Lowering(EVERYWHERE),
    "kernels": Lowering(ONNXRUNTIME),
    "openvino": Lowering(OPENVINO),
    "tensorrt": Lowering(FUSING, "none", lowered_for_tensorrt, second_opinion, trtexec),
}


def lowering_of(profile: Profile) -> Lowering:
    return LOWERINGS[backend(profile.backend).lowering]


def derived(model: onnx.ModelProto, precision: str, profile: Profile, features: Sequence[str]) -> Derived:
    """The model as the target wants it; ``features`` are the processor's. Raises Refusal."""
    lowering = lowering_of(profile)
    file = Derived(model, "none", {})
    if precision == "int8":
        form = lowering.form or choose(profile.rewrite, features)
        made = placed(model, lowering.rules, form)
        file = Derived(made.model, form, made.left_float, made.operators)
    return lowering.finish(file, precision, profile)
