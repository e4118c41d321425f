"""``retort emulator | doctor``: what there is on this machine, and whether it computes correctly."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.options import DeviceOption

if TYPE_CHECKING:
    from targets.diagnose.known import Known

SHOWN = 100  # characters of what a fault came to


def emulator(
    action: Annotated[Literal["install"], typer.Argument(help="install: fetch it into the cache, once.")],
) -> None:
    """Arm processors by emulation, for DEVICE=emulator:cortex-a76: some 200 MB in the user's cache, nothing else.

    Example: retort emulator install
    """
    from targets.devices.emulator import install

    print(f"{install()}: next: retort deploy digits --target rpi5 --device emulator:cortex-a76")


def doctor(
    device: DeviceOption = "local",
    every: Annotated[bool, typer.Option("--all", help="Also the known faults that are not here.")] = False,
    noise: Annotated[bool, typer.Option("--noise", help="How small a slowdown can be proved here?")] = False,
) -> None:
    """Let each runtime do a real computation, compare it with the reference, and look for known faults.

    Example: retort doctor

    Example: retort doctor --device emulator:cortex-a72 --all
    """
    from importlib.util import find_spec

    from targets.diagnose.doctor import examine_all
    from targets.runner.environment import cpu

    if device == "local":
        processor = cpu()
        features = " ".join(processor["features"]) or "no special instructions"
        print(f"processor    {processor['model']}: {features}")
    examined = examine_all(device)
    for finding in examined.findings:
        word = {True: "pass", False: "FAIL", None: "no"}[finding.ok]
        print(f"{finding.name:<12} {word:<5} {finding.text}")
    for runtime, found in examined.known.items():
        tell_known(runtime, found, every)
    if noise:
        tell_noise()
    for name, package, mend in (
        ("torch", "torch", "pip install 'retort[train]' to train"),
        ("litert", "litert_torch", "pip install 'retort[litert]' for .tflite files"),
    ):
        there = find_spec(package) is not None
        print(f"{name:<12} {'found' if there else 'no':<5} {'' if there else mend}".rstrip())
    raise typer.Exit(examined.status)


def tell_known(runtime: str, found: list[Known], every: bool) -> None:
    """How many of the known faults a runtime has; a line for each, and one for what Retort does about them."""
    here = [one for one in found if one.state == "here"]
    told = found if every else here
    print(f"{runtime}: {len(here)} of {len(found)} known faults are here{':' if told else ''}")
    for remedy, faults in itertools.groupby(told, key=lambda one: one.fault.remedy):
        for one in faults:
            mark = {"here": "HERE", "not here": "-", "not taken": "refused"}[one.state]
            seen = one.seen if len(one.seen) <= SHOWN else f"{one.seen[:SHOWN]}…"
            print(f"  {mark:<7} {one.name}: {one.fault.wrong} ({seen}) [{one.fault.source}]")
        print(f"          Retort: {remedy}")


def tell_noise() -> None:
    from targets.diagnose.noise import noise as measure_noise

    seen = measure_noise()
    print(
        f"{'noise':<12} two sessions of one file differ by {seen.spread:.2%} a process (standard deviation);"
    )
    print(f"{'':<13}the same file's milliseconds drifted by {seen.drift:.1%} meanwhile;")
    print(f"{'':<13}a latency that is {seen.provable:.2%} off its limit is told within a minute;")
    for line in seen.advice():
        print(f"{'':<13}{line}")
