"""``retort gate | compare | lock``: what is asked of given ONNX files, where there is no recipe and no torch."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import (
    LOCK,
    REPORT,
    STORE,
    AcceptOption,
    BaselineOption,
    BudgetOption,
    DeviceOption,
    ImagesOption,
    MeanOption,
    ModelArgument,
    SizeOption,
    StdOption,
    StoreOption,
    TargetOption,
)

if TYPE_CHECKING:
    from targets.gate.gate import Given


def gate(
    model: ModelArgument,
    images: ImagesOption,
    target: TargetOption = "cpu",
    budget: BudgetOption = None,
    device: DeviceOption = "local",
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    baseline: BaselineOption = None,
    accept: AcceptOption = "nothing",
    store: StoreOption = STORE,
    out: Annotated[Path, typer.Option(help="Folder of the report and the file as it ran.")] = REPORT,
) -> None:
    """Judge a given ONNX file: measured here and now, no torch needed.

    Example: retort gate model.onnx --images photos --budget accuracy=90 --budget p99_ms=8

    Example: retort gate new.onnx --images photos --baseline retort.lock --budget slower_than_baseline=5%
    """
    from targets.gate.gate import gate as run
    from targets.limits import read_budgets
    from targets.report.terminal import tell

    judged = given(model, images, target, device, size, mean, std)
    accepted = artifact(baseline, store), accept == "not-measured"
    table = run(judged, read_budgets(budget or []), out, *accepted)
    tell(table, out)
    raise typer.Exit(table["status"])


def compare(
    old: Annotated[Path, typer.Argument(help="An ONNX file, or a retort.lock.")],
    new: ModelArgument,
    images: ImagesOption,
    target: TargetOption = "cpu",
    device: DeviceOption = "local",
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
) -> None:
    """What one ONNX file is against another: latency, accuracy, answers, size, each with its interval.

    Example: retort compare old.onnx new.onnx --images photos
    """
    from targets.gate.compare import compare as run

    print("\n".join(run(old, given(new, images, target, device, size, mean, std))))


def layers(
    model: ModelArgument,
    images: ImagesOption,
    device: DeviceOption,
    target: TargetOption = "rpi5",
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
) -> None:
    """Where a device's answers part from this machine's: each tensor of an ONNX file, on both.

    Example: retort layers report/rpi5/int8.onnx --images photos --device emulator:cortex-a76
    """
    from targets.diagnose.layers import layers as run
    from targets.diagnose.layers import told

    print("\n".join(told(run(given(model, images, target, device, size, mean, std)))))


def lock(
    model: ModelArgument,
    images: ImagesOption,
    target: TargetOption = "cpu",
    device: DeviceOption = "local",
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    out: Annotated[Path, typer.Option(help="The lock; a folder at or above the file's.")] = LOCK,
) -> None:
    """Accept an ONNX file: its digest and what it shows, in a file for git that --baseline takes.

    Example: retort lock student.onnx --images photos
    """
    from targets.baselines.lock import write_lock
    from targets.gate.gate import lock as run

    made = run(given(model, images, target, device, size, mean, std), out)
    write_lock(made, out)
    print(f"{out}: {made.model}, sha256 {made.sha256[:12]}…; commit both, then: --baseline {out}")


def given(
    model: Path, images: Path, target: str, device: str, size: int | None, mean: str | None, std: str | None
) -> Given:
    """The options that say which file is asked what, and where."""
    from targets.gate.gate import Given
    from targets.spec.profile import read_profile

    return Given(model, images, read_profile(target), device, size, *normalisation(mean, std))


def normalisation(mean: str | None, std: str | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Both, three numbers each, or neither. Raises Refusal for one alone, which would change nothing or break."""
    from targets.errors import Refusal

    found = triple(mean, "--mean"), triple(std, "--std")
    if bool(found[0]) != bool(found[1]):
        raise Refusal(
            "--mean and --std go together: give both, such as --mean 0.5,0.5,0.5 --std 1,1,1, or neither"
        )
    if not all(map(isfinite, found[0] + found[1])) or any(spread <= 0 for spread in found[1]):
        raise Refusal(f"--mean {mean} --std {std}: finite numbers are wanted, and a std above 0")
    return found


def triple(text: str | None, option: str) -> tuple[float, ...]:
    """``0.5,0.5,0.5`` as three numbers; nothing as none."""
    from targets.errors import Refusal

    try:
        numbers = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        numbers = (0.0,)
    if len(numbers) not in (0, 3):
        raise Refusal(f"{option} {text}: write three numbers, such as 0.485,0.456,0.406")
    return numbers


def artifact(baseline: str | None, store: Path) -> Path | None:
    """The file of a path, or of a key that ``retort show`` prints."""
    if baseline is None or Path(baseline).exists():
        return Path(baseline) if baseline else None
    kept = store / "objects" / baseline / "model.onnx"
    return kept if kept.exists() and Path(baseline).name == baseline else Path(baseline)
