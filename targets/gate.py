"""gate: one ONNX file, a folder of images, budgets: yes or no. No torch, no recipe, no store."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from targets.budgets import Budgets
from targets.contract import Contract, infer_contract, read_contract
from targets.folder import LazyImages, class_folders, save_images
from targets.measure import Candidate, measure
from targets.profile import Profile
from targets.progress import track
from targets.reference import beside
from targets.refusal import Refusal
from targets.report import compose, target_table, write_report
from targets.verdict import Exam, judge, sure


def gate(
    model: Path,
    images: Path,
    profile: Profile,
    device: str,
    budgets: Budgets,
    out: Path,
    size: int | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    baseline: Path | None = None,
) -> dict[str, Any]:
    """The report's table of one given file; ``images`` is a folder of class folders.

    ``baseline`` is another file with the same input, timed in the same rounds.
    """
    budgets = budgets.over(profile.budgets)
    if not budgets.model_dump(exclude_none=True):
        raise Refusal(
            "gate: no budget to judge by; give --budget p99_ms=8 or another, or a profile with budgets"
        )
    proto = load(model)
    contract = read_contract(proto) or infer_contract(proto, str(model), size, mean, std)
    if baseline is not None:
        check_baseline(baseline, contract, mean, std)
    paths, folders = class_folders(images)
    classes = check_classes(proto, contract, folders, images)
    labels = np.array([classes.index(path.parent.name) for path in paths], dtype=np.int64)
    with tempfile.TemporaryDirectory(prefix="retort-") as work:
        decoded = Path(work) / "images.npy"
        save_images(track(LazyImages(paths), "images"), len(paths), contract.size, decoded)
        exam = Exam(labels, classes, {})
        found = measure(
            # Not the file's name: it could be that of one timed beside it.
            [Candidate("candidate", model, "float32")],
            contract,
            profile,
            device,
            decoded,
            out / profile.name,
            beside(budgets, contract, baseline, Path(work)),
            lambda so_far: sure(judge(so_far, budgets, exam)),
        )
    table = target_table(profile, device, judge(found, budgets, exam), exam, found)
    report = compose(str(model), exam, [], [table])
    write_report(report, out)
    return report


def check_baseline(path: Path, contract: Contract, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raises Refusal unless the baseline takes the candidate's images."""
    proto, where = load(path), f"--baseline {path}"
    own = read_contract(proto) or infer_contract(proto, where, contract.size, mean, std)
    if (own.feed(), own.size) != (contract.feed(), contract.size):
        raise Refusal(f"{where}: it takes other images than the candidate")


def load(path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file") from None
    except (OSError, DecodeError, onnx.checker.ValidationError) as error:
        line = (str(error).splitlines() or ["empty"])[0]
        raise Refusal(f"{path}: not a usable ONNX file: {line}") from None
    return proto


def check_classes(
    proto: onnx.ModelProto, contract: Contract, folders: tuple[str, ...], images: Path
) -> tuple[str, ...]:
    """The classes in the order of the answers: the file's own names, or the folders' in sorted order."""
    if contract.classes:
        odd = sorted(set(folders) - set(contract.classes))
        if odd:
            raise Refusal(
                f"{images}: folder '{odd[0]}' is no class of the model ({', '.join(contract.classes[:8])})"
            )
        return contract.classes
    (answers,) = (value for value in proto.graph.output if value.name == contract.output)
    width = [dim.dim_value for dim in answers.type.tensor_type.shape.dim][-1:]
    if width and width[0] not in (0, len(folders)):
        raise Refusal(f"{images}: {len(folders)} class folders, but the model answers {width[0]} classes")
    return folders


def triple(text: str | None, option: str) -> tuple[float, ...]:
    """``0.5,0.5,0.5`` as three numbers; nothing as none."""
    try:
        numbers = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        numbers = (0.0,)
    if len(numbers) not in (0, 3):
        raise Refusal(f"{option} {text}: write three numbers, such as 0.485,0.456,0.406")
    return numbers
