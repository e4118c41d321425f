"""What is timed beside the candidates, in the same rounds, and never ships: a baseline, the reference network."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from targets.baselines.lock import SUFFIX, accepted
from targets.baselines.reference_network import write_reference
from targets.errors import Refusal, first_line
from targets.limits import Budgets
from targets.measuring.candidate import Candidate
from targets.provenance.manifest import verify_file
from targets.regular_file import regular_file
from targets.spec.contract import Contract, Said, infer_contract, read_contract


def comparisons(budgets: Budgets, contract: Contract, baseline: Path | None, work: Path) -> list[Candidate]:
    """What is given or what the budgets want; ``work`` is where its files may lie."""
    found = []
    if baseline is not None:
        found.append(Candidate("baseline", baseline_file(baseline, contract, work), "float32"))
    if any(row.needs == "reference" for row, _ in budgets.rows()):
        found.append(Candidate("reference", write_reference(contract, work / "reference.onnx"), "float32"))
    return found


def baseline_file(baseline: Path, contract: Contract, work: Path) -> Path:
    """The file, or what a lock accepted. Raises Refusal unless it takes the candidates' images."""
    path = accepted(baseline, work) if baseline.suffix == SUFFIX else baseline
    proto, where = load(path), f"--baseline {baseline}"
    values = None if contract.range == "0..1" else contract.range
    said = Said(contract.size, contract.mean, contract.std, contract.channels, values)
    own = read_contract(proto) or infer_contract(proto, where, said)
    if (own.feed(), own.size) != (contract.feed(), contract.size):
        raise Refusal(f"{where}: it takes other images than the candidate")
    return path


def load(path: Path) -> onnx.ModelProto:
    try:
        verify_file(regular_file(path))
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file") from None
    except (OSError, DecodeError, onnx.checker.ValidationError) as error:
        raise Refusal(f"{path}: not a usable ONNX file: {first_line(error)}") from None
    return proto
