"""explain: of each operator of an ONNX file, whether it will run in int8 on a target, and if not, why.

Where pairs stand does not hang on how wide the grid is, so a made-up grid tells it without images: the file is
quantized with it, and where the target's runtime is installed here, its own optimised graph is counted. A file that
cannot be quantized is told as it is: which of its operators run in int8, and which could.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from targets.convert.forms import choose
from targets.convert.graph import QUANTIZERS
from targets.convert.int8_file import Placed, placed
from targets.convert.mobile import on_arm
from targets.convert.placement import HEAVY
from targets.convert.reasons import Operator, listed
from targets.convert.rules import Rules
from targets.convert.target_file import Derived, lowering_of
from targets.diagnose.troubles import Trouble, troubles
from targets.errors import Refusal, first_line
from targets.onnx_file import load
from targets.quantize.clean import cleaned
from targets.quantize.exchange import exchange
from targets.quantize.policy import rounded
from targets.runner.backends import Runtime, backend
from targets.runner.backends.ort import INT8
from targets.runner.environment import cpu
from targets.spec.profile import Profile

STEP = 0.05  # of every tensor of the made-up grid
NOT_FUSED = "the runtime did not fuse its pairs into it"


@dataclass(frozen=True)
class Explanation:
    """``counted``: by whose word. ``plan``: how many of each operator the runtime's own optimised graph has."""

    operators: Sequence[Operator]
    counted: str
    notes: tuple[str, ...] = ()
    plan: Mapping[str, int] | None = None
    troubles: Sequence[Trouble] = ()

    @property
    def heavy(self) -> list[Operator]:
        """The convolutions and products, in which nearly all of the time goes."""
        return [one for one in self.operators if one.heavy]

    @property
    def int8(self) -> int:
        return sum(one.runs == "int8" for one in self.heavy)


def explain(path: Path, profile: Profile) -> Explanation:
    """What will become of a file on a target, from the file alone. Raises Refusal for what is no ONNX file."""
    model = load(path)
    try:
        float_file, names = prepared(model, str(path))
    except Refusal as refusal:
        found = as_it_is(model, profile, str(refusal))
    else:
        found = of_grid(exchange(float_file, dict.fromkeys(names, STEP)), profile)
    return replace(found, troubles=troubles(model, profile))


def prepared(model: onnx.ModelProto, where: str) -> tuple[onnx.ModelProto, list[str]]:
    """The float file as the quantizer reads it, and the tensors to round. Raises Refusal."""
    float_file = cleaned(model, where)
    names = [str(value.name) for value in rounded(ir.from_proto(float_file).graph)]
    if not names:
        raise Refusal(f"{where}: it has no convolution or linear layer that could be int8")
    return float_file, names


def of_grid(model: onnx.ModelProto, profile: Profile) -> Explanation:
    """What becomes of a file with a pair on every rounded tensor."""
    made = in_place(model, profile)
    try:
        file = lowering_of(profile).finish(Derived(made.model, "", {}), "int8", profile)
    except Refusal as refusal:  # the linter's
        return Explanation(made.operators, f"by {profile.backend}'s rules", (str(refusal),))
    return with_word(made.operators, file.model, profile)


def in_place(model: onnx.ModelProto, profile: Profile, features: Sequence[str] = ()) -> Placed:
    """The target's file; ``features``: its processor's, where that is not this one."""
    lowering = lowering_of(profile)
    form = lowering.form or choose(profile.rewrite, features or cpu()["features"])
    return placed(model, lowering.rules, form)


def with_word(operators: Sequence[Operator], model: onnx.ModelProto, profile: Profile) -> Explanation:
    """The operators, those in float by the runtime's own word marked so where it can be asked here."""
    runtime = backend(profile.backend)
    name = f"{runtime.name} {installed(runtime)}".strip()
    why = cannot_ask(runtime, profile)
    if why:
        return Explanation(operators, f"by {runtime.name}'s rules: {why}")
    try:
        facts = asked(model, runtime, profile)
    except Exception as error:  # of any runtime's own kind: it does not take the file
        return Explanation(operators, f"by {runtime.name}'s rules", (f"{name}: {first_line(error)}",))
    floats = facts["float_operators"]
    marked = [
        replace(one, runs="float", why=NOT_FUSED)
        if one.runs == "int8" and one.heavy and one.name in floats
        else one
        for one in operators
    ]
    arm = ", fused as on Arm" if for_arm(profile) else ""
    notes = more_in_float(marked, floats, name)
    return Explanation(marked, f"counted in {name}'s own graph{arm}", notes, facts["operators"])


def more_in_float(operators: Sequence[Operator], floats: Sequence[str], runtime: str) -> tuple[str, ...]:
    """What the runtime runs in float beyond what is told, as a rewritten layer, whose name is another."""
    told = sum(one.heavy and one.runs == "float" for one in operators)
    others = [name for name in floats if name not in {one.name for one in operators if one.runs == "float"}]
    if len(floats) <= told:
        return ()
    return (f"{runtime} runs {len(floats) - told} more in float than is told here: {', '.join(others)}",)


def installed(runtime: Runtime) -> str:
    try:
        return version(runtime.name)
    except PackageNotFoundError:
        return ""


def cannot_ask(runtime: Runtime, profile: Profile) -> str:
    """Why the runtime's own graph cannot be seen here; empty where it can."""
    if "onnx" not in runtime.files:
        return "its file is made of a recipe's network, not of ONNX"
    if runtime.builds_there:
        return "it builds on the device"
    return "" if runtime.missing() is None else "it is not installed here"


def for_arm(profile: Profile) -> bool:
    return backend(profile.backend).fuses_for_arm and profile.rewrite == "s8"


def asked(model: onnx.ModelProto, runtime: Runtime, profile: Profile) -> dict[str, Any]:
    """The facts of the graph that the runtime makes of a file."""
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        made = Path(folder) / "int8.onnx"
        onnx.save(model, made)
        if for_arm(profile):
            return on_arm(made)
        options = {"threads": 1, "batch": 1, "precision": "int8"}
        return runtime.build(str(made), options, str(Path(folder) / "engine"))


def as_it_is(model: onnx.ModelProto, profile: Profile, why: str) -> Explanation:
    """Of a file that is not quantized here: what it has in int8 itself, and what could be."""
    graph = ir.from_proto(model).graph
    quantized = any(node.op_type in QUANTIZERS for node in graph)
    rules = lowering_of(profile).rules
    found = [
        one_as_it_is(name, kind, maps, quantized, rules)
        for name, kind, maps in listed(graph)
        if kind not in QUANTIZERS
    ]
    told = with_word(found, model, profile)
    return replace(told, notes=(why, *told.notes))


def one_as_it_is(name: str, kind: str, maps: bool, quantized: bool, rules: Rules) -> Operator:
    if kind.startswith(INT8):
        return Operator(name, kind, "int8", "it is an operator on integers itself")
    if not maps:
        return Operator(name, kind, "shapes")
    if quantized:
        one = Operator(name, kind, "int8", "between the file's own pairs")
        return one if one.heavy else Operator(name, kind, "as the runtime decides")
    if rules.kernels is None or kind in (*rules.kernels, *rules.carry, *HEAVY):
        return Operator(name, kind, "float", "the file is not quantized; between pairs it could run in int8")
    return Operator(name, kind, "float", "the runtime has no int8 kernel for it")
