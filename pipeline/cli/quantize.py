"""``retort quantize``: an int8 file of a given float ONNX file, where there is no recipe and no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.inputs import with_inputs
from pipeline.cli.options import (
    REPORT,
    AcceptOption,
    BudgetOption,
    DeviceOption,
    ModelArgument,
)

if TYPE_CHECKING:
    from targets.spec.contract import Said


@with_inputs
def quantize(
    model: ModelArgument,
    images: Annotated[Path, typer.Option(help="Folder of images, or of class folders of images.")],
    target: Annotated[
        str, typer.Option(help="Targets by name, or a profile's .toml; a comma between.")
    ] = "cpu",
    budget: BudgetOption = None,
    device: DeviceOption = "local",
    calibration: Annotated[
        int, typer.Option(help="Images that set the grid, at most; the rest judges.", min=8)
    ] = 300,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of the names of nodes that stay float, as 'head*'; repeat."),
    ] = None,
    accept: AcceptOption = "nothing",
    out: Annotated[Path, typer.Option(help="Folder of the report and of each target's int8 file.")] = REPORT,
    *,
    said: Said,
) -> None:
    """Quantize a float ONNX file by calibration, for one target or several, and judge it beside float.

    Example: retort quantize model.onnx --images photos --target cpu,openvino --budget drop_vs_float=1
    """
    from targets.limits import read_budgets
    from targets.quantize.quantize import Order
    from targets.quantize.quantize import quantize as run
    from targets.report.terminal import tell
    from targets.spec.profile import targets_of

    order = Order(model, images, targets_of(target), device, calibration, keep_float or (), said)
    table = run(order, read_budgets(budget or []), out, accept == "not-measured")
    tell(table, out)
    raise typer.Exit(table["status"])
