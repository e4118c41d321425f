"""``retort gate | compare | lock``: what is asked of given ONNX files, where there is no recipe and no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.inputs import with_inputs
from pipeline.cli.options import (
    LOCK,
    REPORT,
    STORE,
    AcceptOption,
    BaselineOption,
    BudgetOption,
    DeviceOption,
    ImagesOption,
    ModelArgument,
    StoreOption,
    TargetOption,
)

if TYPE_CHECKING:
    from targets.gate.gate import Given
    from targets.spec.contract import Said


@with_inputs
def gate(
    model: ModelArgument,
    images: ImagesOption,
    target: TargetOption = "cpu",
    budget: BudgetOption = None,
    device: DeviceOption = "local",
    baseline: BaselineOption = None,
    accept: AcceptOption = "nothing",
    store: StoreOption = STORE,
    out: Annotated[Path, typer.Option(help="Folder of the report and the file as it ran.")] = REPORT,
    *,
    said: Said,
) -> None:
    """Judge a given ONNX file: measured here and now, no torch needed.

    Example: retort gate model.onnx --images photos --budget accuracy=90 --budget p99_ms=8

    Example: retort gate new.onnx --images photos --baseline retort.lock --budget slower_than_baseline=5%
    """
    from targets.gate.gate import gate as run
    from targets.limits import read_budgets
    from targets.report.terminal import tell

    judged = given(model, images, target, device, said)
    accepted = artifact(baseline, store), accept == "not-measured"
    table = run(judged, read_budgets(budget or []), out, *accepted)
    tell(table, out)
    raise typer.Exit(table["status"])


@with_inputs
def compare(
    old: Annotated[Path, typer.Argument(help="An ONNX file, or a retort.lock.")],
    new: ModelArgument,
    images: ImagesOption,
    target: TargetOption = "cpu",
    device: DeviceOption = "local",
    *,
    said: Said,
) -> None:
    """What one ONNX file is against another: latency, accuracy, answers, size, each with its interval.

    Example: retort compare old.onnx new.onnx --images photos
    """
    from targets.gate.compare import compare as run

    print("\n".join(run(old, given(new, images, target, device, said))))


@with_inputs
def layers(
    model: ModelArgument,
    images: ImagesOption,
    device: DeviceOption,
    target: TargetOption = "rpi5",
    *,
    said: Said,
) -> None:
    """Where a device's answers part from this machine's: each tensor of an ONNX file, on both.

    Example: retort layers report/rpi5/int8.onnx --images photos --device emulator:cortex-a76
    """
    from targets.diagnose.layers import layers as run
    from targets.diagnose.layers import told

    print("\n".join(told(run(given(model, images, target, device, said)))))


@with_inputs
def lock(
    model: ModelArgument,
    images: ImagesOption,
    target: TargetOption = "cpu",
    device: DeviceOption = "local",
    out: Annotated[Path, typer.Option(help="The lock; a folder at or above the file's.")] = LOCK,
    *,
    said: Said,
) -> None:
    """Accept an ONNX file: its digest and what it shows, in a file for git that --baseline takes.

    Example: retort lock student.onnx --images photos
    """
    from targets.baselines.lock import write_lock
    from targets.gate.gate import lock as run

    made = run(given(model, images, target, device, said), out)
    write_lock(made, out)
    print(f"{out}: {made.model}, sha256 {made.sha256[:12]}…; commit both, then: --baseline {out}")


def given(model: Path, images: Path, target: str, device: str, said: Said) -> Given:
    """The options that say which file is asked what, and where."""
    from targets.gate.gate import Given
    from targets.spec.profile import read_profile

    return Given(model, images, read_profile(target), device, said)


def artifact(baseline: str | None, store: Path) -> Path | None:
    """The file of a path, or of a key that ``retort show`` prints."""
    if baseline is None or Path(baseline).exists():
        return Path(baseline) if baseline else None
    kept = store / "objects" / baseline / "model.onnx"
    return kept if kept.exists() and Path(baseline).name == baseline else Path(baseline)
