"""The options that several commands have, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

ModelArgument = Annotated[Path, typer.Argument(help="An ONNX file.")]
ImagesOption = Annotated[Path, typer.Option(help="Folder of class folders of images.")]
TargetOption = Annotated[str, typer.Option(help="A target's name, or a profile's .toml.")]
DeviceOption = Annotated[
    str, typer.Option(help="Where: local, ssh://user@host:port, adb://serial, emulator:cortex-a76.")
]
BudgetOption = Annotated[list[str] | None, typer.Option(help="NAME=LIMIT, of retort budgets; repeat.")]
BaselineOption = Annotated[
    str | None, typer.Option(help="Timed beside it: an ONNX file, a retort.lock, or a key of the store.")
]
AcceptOption = Annotated[
    Literal["nothing", "not-measured"],
    typer.Option(help="not-measured: what could not be measured may pass, as a latency on an emulator."),
]
UnverifiedOption = Annotated[
    bool, typer.Option("--unverified", help="Take a bundle without a manifest.json; the verdict says so.")
]
SignOption = Annotated[
    Path | None, typer.Option(help="An SSH key: what was made is signed with it (retort sign).")
]
StoreOption = Annotated[Path, typer.Option(help="Where artifacts are kept.", envvar="RETORT_STORE")]
TrustOption = Annotated[
    bool,
    typer.Option("--trust-store", help="Use a store that was made elsewhere.", envvar="RETORT_TRUST_STORE"),
]
ProcessesOption = Annotated[int, typer.Option(help="That train together, by torchrun.", min=1)]
NodesOption = Annotated[
    int, typer.Option(help="Machines that train together, each given the same command.", min=1)
]
RendezvousOption = Annotated[str | None, typer.Option(help="HOST:PORT of one of them, where they meet.")]
CurvesOption = Annotated[Path | None, typer.Option(help="Folder of the training's curves.")]
LOCK, REPORT, STORE = Path("retort.lock"), Path("report"), Path(".retort")
