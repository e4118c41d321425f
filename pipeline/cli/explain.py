"""``retort explain``: which operators of an ONNX file will run in int8 on a target, and why the others will not."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.gate import given
from pipeline.cli.inputs import with_inputs
from pipeline.cli.options import DeviceOption, ModelArgument, TargetOption
from targets.errors import Refusal

if TYPE_CHECKING:
    from rich.table import Table

    from targets.diagnose.distance import Distance
    from targets.diagnose.explain import Explanation
    from targets.diagnose.troubles import Trouble
    from targets.spec.contract import Said

NAMED, WORST = 3, 5  # nodes of a group; layers that are named without --all


@with_inputs
def explain(
    model: ModelArgument,
    target: TargetOption = "cpu",
    images: Annotated[
        Path | None, typer.Option(help="Folder of images: then also how far int8 is from float.")
    ] = None,
    device: DeviceOption = "local",
    every: Annotated[bool, typer.Option("--all", help="A line for each operator.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="The same as a file for tools.")] = None,
    *,
    said: Said,
) -> None:
    """Which operators of an ONNX file will run in int8 on a target, which will not, and why.

    Example: retort explain model.onnx --target cpu

    Example: retort explain model.onnx --images photos --all
    """
    from rich.console import Console

    from targets.diagnose.distance import distances
    from targets.diagnose.explain import explain as run
    from targets.spec.contract import NOTHING
    from targets.spec.profile import read_profile

    profile = read_profile(target)
    apart: Sequence[Distance] = ()
    if images is None and (device != "local" or said != NOTHING):
        raise Refusal("explain: --device, --size and what else is said of images go with --images; give that")
    if images is None:
        found = run(model, profile)
    else:
        found, apart = distances(given(model, images, target, device, said))
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(f"{headline(found)} on {profile.name} ({found.counted})", markup=False)
    for note in found.notes:
        console.print(f"  {note}", markup=False)
    for one in found.troubles:
        console.print(f"  {trouble(one)}", markup=False)
    console.print(listing(found) if every else groups(found))
    if apart:
        console.print(layers(apart, every))
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(found, apart), indent=1) + "\n")


def headline(found: Explanation) -> str:
    return f"{found.int8} of {len(found.heavy)} convolutions and products will run in int8"


def trouble(one: Trouble) -> str:
    said = {True: "and so it is here", False: "but not here", None: "not tried here"}[one.here]
    return f"known trouble: {some(one.nodes)}: {one.wrong}, {said} [{one.source}]"


def some(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def groups(found: Explanation) -> Table:
    """A line for the operators of one kind with one fate; what is in float first, the heavy ones before all."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for one in found.operators:
        if one.runs != "shapes":
            alike.setdefault((one.runs, one.kind, one.why), []).append(one.name)
    heavy = {one.kind for one in found.heavy}
    made = table("runs in", "operator", "count", "why", "nodes")
    order = lambda key: (key[0] == "int8", key[1] not in heavy, key[0], -len(alike[key]))
    for runs, kind, why in sorted(alike, key=order):
        names = alike[runs, kind, why]
        made.add_row(runs, kind, str(len(names)), why, some(names))
    return made


def listing(found: Explanation) -> Table:
    made = table("node", "operator", "runs in", "why")
    for one in found.operators:
        made.add_row(one.name, one.kind, one.runs, one.why)
    return made


def table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False)


def layers(apart: Sequence[Distance], every: bool) -> Table:
    """How far each layer's tensor is from float; without ``every`` the first bad one, the worst and the answers."""
    from targets.diagnose.distance import BAD, first_bad

    bad = first_bad(apart)
    worst = sorted(apart, key=lambda one: one.db)[:WORST]
    shown = [one for one in apart if every or one in (bad, apart[-1], *worst)]
    made = table("distance from float", "operator", "dB", "")
    for one in shown:
        mark = f"<- the first below {BAD:g} dB" if one is bad else ""
        made.add_row(one.node, one.kind, f"{one.db:.1f}", mark)
    if not every:
        made.caption = f"{len(shown)} of {len(apart)} tensors; --all for each"
        made.caption_justify = "left"
    return made


def as_json(found: Explanation, apart: Sequence[Distance]) -> dict[str, Any]:
    far = {one.node: round(one.db, 2) if math.isfinite(one.db) else None for one in apart}
    return {"int8": found.int8, "of": len(found.heavy), **asdict(found), "distance_db": far}
