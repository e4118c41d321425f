"""What is timed beside the candidates, in the same rounds, and never ships: a baseline, the reference network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir

from targets.baselines.lock import SUFFIX, accepted
from targets.baselines.reference_network import write_reference
from targets.errors import Refusal
from targets.limits import Budgets
from targets.measuring.candidate import Candidate
from targets.onnx_file import load
from targets.spec.contract import Contract, Said, infer_contract, read_contract
from targets.spec.output import check_output
from targets.tasks import TASKS


def comparisons(budgets: Budgets, contract: Contract, baseline: Path | None, work: Path) -> list[Candidate]:
    """What is given or what the budgets want; ``work`` is where its files may lie."""
    found = []
    if baseline is not None:
        found.append(Candidate("baseline", baseline_file(baseline, contract, work), "float32"))
    if any(row.needs == "reference" for row, _ in budgets.rows()):
        found.append(Candidate("reference", write_reference(contract, work / "reference.onnx"), "float32"))
    return found


def baseline_file(baseline: Path, contract: Contract, work: Path) -> Path:
    """The file, or what a lock accepted. Raises Refusal unless it takes the candidates' images.

    Its tensors may have other names: then the file lies in ``work``, with the candidates' names.
    """
    path = accepted(baseline, work) if baseline.suffix == SUFFIX else baseline
    proto, where = load(path), f"--baseline {baseline}"
    values = None if contract.range == "0..1" else contract.range
    output = contract.output if contract.output in [value.name for value in proto.graph.output] else None
    said = Said(contract.size, contract.mean, contract.std, contract.channels, values, output=output)
    own = read_contract(proto) or infer_contract(proto, where, said)
    check_output(proto, own.output, TASKS[own.task].dims, where)
    named = replace(own, input=contract.input, output=contract.output)
    if (named.feed(), own.size) != (contract.feed(), contract.size):
        raise Refusal(f"{where}: it takes other images than the candidate")
    if own == named:
        return path
    onnx.save(renamed(proto, {own.input: named.input, own.output: named.output}), work / "baseline.onnx")
    return work / "baseline.onnx"


def renamed(proto: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """The same file with other names of some tensors; whatever had the new names makes room."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)  # whose tensors a renaming would reach
    model = ir.from_proto(copy)
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [value for node in model.graph.all_nodes() for value in node.outputs]
    rooms = {name: f"{name} of the baseline" for name in set(names.values()) - set(names)}
    for chosen in (rooms, names):
        for value, name in [(value, chosen[str(value.name)]) for value in values if value.name in chosen]:
            value.name = name
    return ir.to_proto(model)
