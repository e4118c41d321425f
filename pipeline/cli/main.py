"""``retort``: the commands. Imports are late, so that --help answers at once and nothing here needs torch."""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import explain, gate, lists, machine, provenance, quantize
from pipeline.cli.endings import Ended, heed_endings, ignore_endings
from pipeline.cli.gate import artifact
from pipeline.cli.options import (
    REPORT,
    STORE,
    AcceptOption,
    BaselineOption,
    CurvesOption,
    DeviceOption,
    NodesOption,
    ProcessesOption,
    RendezvousOption,
    SignOption,
    StoreOption,
    TrustOption,
    UnverifiedOption,
)
from pipeline.cli.run_folder import RunFolder
from targets.errors import BROKEN, Refusal, first_line, foreseen, one_line

if TYPE_CHECKING:
    from pipeline.engine.store import Store
    from pipeline.line import Workshop

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipeArgument = Annotated[str, typer.Argument(help="A .toml file, or a built-in recipe: digits.")]
TargetOption = Annotated[
    str, typer.Option(help="Targets by name, or a profile's .toml; a comma between; or all.")
]
OutOption = Annotated[Path, typer.Option(help="Folder of the report and the files to ship.")]


class Debugging:
    """Whether --debug was given: an error then shows where it comes from; its exit status is the same."""

    on = False


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    """From a big image network to a small int8 one, proved on its target.

    Exit status: 0 all budgets met, 1 one failed, 2 wrong usage or input, 3 not measured or not decided, 70 an
    error of Retort's own.
    """
    Debugging.on = debug


@app.command()
def deploy(
    recipe: RecipeArgument,
    target: TargetOption = "cpu",
    device: DeviceOption = "local",
    baseline: BaselineOption = None,
    accept: AcceptOption = "nothing",
    processes: ProcessesOption = 1,
    nodes: NodesOption = 1,
    rendezvous: RendezvousOption = None,
    tensorboard: CurvesOption = None,
    sign: SignOption = None,
    out: OutOption = REPORT,
    store: StoreOption = STORE,
    trust_store: TrustOption = False,
) -> None:
    """From a recipe to a verdict: train, quantize, export, measure, judge, report.

    Example: retort deploy digits --target cpu
    """
    from pipeline.engine.store import Store
    from pipeline.line import deploy as run
    from targets.report.terminal import tell

    shop = workshop(Store(store.resolve(), trust_store), processes, nodes, rendezvous, tensorboard)
    accepted = artifact(baseline, store), accept == "not-measured"
    table = run(recipe, target, device, out, shop, *accepted, sign)
    tell(table, out)
    raise typer.Exit(table["status"])


def workshop(
    store: Store, processes: int, nodes: int, rendezvous: str | None, tensorboard: Path | None
) -> Workshop:
    """With what the stages of a recipe are made. Raises Refusal for processes that cannot meet."""
    from pipeline.engine.job import Resources
    from pipeline.line import Workshop
    from targets.progress import say

    if nodes > 1 and not re.fullmatch(r"[^\s:]+:\d+", rendezvous or ""):
        given = rendezvous or "is missing"
        raise Refusal(f"--rendezvous {given}: {nodes} nodes meet at HOST:PORT of one of them; give that")
    if nodes == 1 and rendezvous is not None:
        raise Refusal("--rendezvous: one node meets nobody; give --nodes, or leave it out")
    cores = os.cpu_count() or 1
    if processes > cores:
        raise Refusal(f"--processes: {processes} on a machine with {cores} cores; at most one each")
    curves = str(tensorboard.resolve()) if tensorboard is not None else ""
    resources = Resources(processes, nodes, rendezvous or "", curves, Debugging.on)
    return Workshop(store, say, resources)


@app.command()
def bundle(
    recipe: RecipeArgument,
    folder: Annotated[Path, typer.Argument(help="Where the bundle goes.")],
    target: Annotated[str, typer.Option(help="A target's name, or a profile's .toml.")] = "cpu",
    processes: ProcessesOption = 1,
    nodes: NodesOption = 1,
    rendezvous: RendezvousOption = None,
    tensorboard: CurvesOption = None,
    store: StoreOption = STORE,
    trust_store: TrustOption = False,
) -> None:
    """Train here, measure there: everything a target needs, in one folder, for a machine without torch.

    Example: retort bundle digits out/ --target cpu
    """
    from pipeline.engine.store import Store
    from pipeline.line import bundle as make
    from pipeline.line import tell_images
    from pipeline.recipe.read import read_recipe
    from targets.bundle.bundle import write_bundle
    from targets.spec.profile import read_profile

    shop = workshop(Store(store.resolve(), trust_store), processes, nodes, rendezvous, tensorboard)
    given = read_recipe(recipe)
    with shop.store.in_use():
        tell_images(given[0], shop)
        write_bundle(make(recipe, *given, read_profile(target), "local", shop), folder)
    print(f"{folder}: next, on the machine that reaches the device: retort measure {folder} --device DEVICE")


@app.command()
def measure(
    folder: Annotated[Path, typer.Argument(help="A bundle.")],
    device: DeviceOption = "local",
    baseline: BaselineOption = None,
    accept: AcceptOption = "nothing",
    unverified: UnverifiedOption = False,
    out: OutOption = REPORT,
    store: StoreOption = STORE,
) -> None:
    """Measure and judge a bundle that its manifest.json fits; no torch needed.

    Example: retort measure out/ --device local
    """
    from targets.bundle.bundle import read_bundle
    from targets.bundle.prove import prove, report_of
    from targets.report.table import write_report
    from targets.report.terminal import tell

    read = read_bundle(folder, unverified)
    accepted = artifact(baseline, store), accept == "not-measured"
    proof = prove(read, device, out / read.profile.name, *accepted)
    table = report_of([read], [proof])
    write_report(table, out)
    tell(table, out)
    raise typer.Exit(table["status"])


@app.command()
def show(recipe: RecipeArgument, target: TargetOption = "cpu", store: StoreOption = STORE) -> None:
    """The plan: each stage, its key, and whether it is cached; how each training goes; whose code. Nothing runs.

    Example: retort show digits
    """
    from pipeline.data.content import KNOWN
    from pipeline.engine.store import Store
    from pipeline.plan import code_of_recipe, plan
    from pipeline.recipe.read import read_recipe
    from pipeline.recipe.schema import Distill, Training
    from targets.spec.profile import targets_of

    read, folder = read_recipe(recipe)
    kept = Store(store)
    for profile in targets_of(target):
        for stage in plan(read, folder, profile, kept.root / KNOWN).stages:
            state = "cached" if kept.has(stage.key) else "would run"
            print(f"{profile.name:<10} {stage.name:<9} {state:<9} {stage.key}")
        print(f"{profile.name:<10} measure   would run (taken anew each time)")
    for name, section in read.trainings.items():
        settings = {key: getattr(section, key) for key in Training.model_fields}
        if isinstance(section, Distill):
            taught = section.scheme.name == "offline" and (read.teacher is not None or name != "distill")
            losses = " + ".join(loss.name for loss in section.losses) if taught else "as the scheme says"
            settings = {"scheme": section.scheme.name, "loss": losses, **settings}
        print(f"{name}: {', '.join(f'{key} = {value}' for key, value in settings.items())}")
    for name, factory, files in code_of_recipe(read, folder):
        print(f"{name}: would run {factory}: {', '.join(files) or 'of an installed package'}")


JUDGES = (gate.gate, quantize.quantize, explain.explain, gate.compare, gate.lock, gate.layers)
PAPERS = (provenance.verify, provenance.sign)
LISTS = (lists.targets, lists.methods, lists.schemes, lists.networks, lists.datasets, lists.budgets)
for command in (*JUDGES, *PAPERS, *LISTS, machine.emulator, machine.doctor):
    app.command()(command)


@app.command()
def gc(
    recipe: Annotated[list[str], typer.Argument(help="Recipes whose artifacts stay.")],
    store: StoreOption = STORE,
) -> None:
    """Drop from the store whatever the given recipes do not need for the targets that ship.

    Example: retort gc digits my/recipe.toml
    """
    from pipeline.data.content import KNOWN
    from pipeline.engine.store import Store
    from pipeline.plan import plan
    from pipeline.recipe.read import read_recipe
    from targets.spec.profile import profiles, read_profile

    keys, kept = set(), Store(store)
    for one in recipe:
        read, folder = read_recipe(one)
        for name in profiles():
            stages = plan(read, folder, read_profile(name), kept.root / KNOWN).stages
            keys |= {stage.key for stage in stages}
    with kept.alone():
        gone = kept.keep_only(keys)
    print("\n".join([*gone, f"{len(gone)} dropped"]))


def main() -> None:
    """The entry point: what goes wrong becomes one line and its exit status."""
    folder: RunFolder | None = None
    try:
        try:
            heed_endings()
            folder = RunFolder()
            app()
        finally:
            ignore_endings()  # what comes now comes too late: the rest takes milliseconds
    except Ended as ended:
        (number,) = ended.args
        say_why(
            f"ended by {signal.Signals(number).name}; run again, it goes on where it stopped", 128 + number
        )
    except Exception as error:  # what was not foreseen must not look like a failed budget
        what = f"an error of Retort's own: {type(error).__name__}: {first_line(error)}"
        say_why(*foreseen(error) or (f"{what}; retort --debug … shows where: please report it", BROKEN))
    finally:
        if folder is not None:
            folder.remove()


def say_why(message: str, status: int) -> None:
    if Debugging.on:
        traceback.print_exc()
    print(f"retort: {one_line(message)}", file=sys.stderr)
    raise SystemExit(status) from None


if __name__ == "__main__":
    main()
