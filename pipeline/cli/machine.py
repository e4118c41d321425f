"""``retort emulator | doctor``: what there is on this machine, and whether it computes correctly."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def emulator(
    action: Annotated[Literal["install"], typer.Argument(help="install: fetch it into the cache, once.")],
) -> None:
    """Arm processors by emulation, for DEVICE=emulator:cortex-a76: some 200 MB in the user's cache, nothing else.

    Example: retort emulator install
    """
    from targets.devices.emulator import install

    print(f"{install()}: next: retort deploy digits --target rpi5 --device emulator:cortex-a76")


def doctor(
    noise: Annotated[bool, typer.Option("--noise", help="How small a slowdown can be proved here?")] = False,
) -> None:
    """Let each runtime do a real computation here, and compare it with the reference.

    Example: retort doctor --noise
    """
    from importlib.util import find_spec

    from targets.diagnose.doctor import examine_all
    from targets.runner.environment import cpu

    processor = cpu()
    print(
        f"processor    {processor['model']}: {' '.join(processor['features']) or 'no special instructions'}"
    )
    findings, status = examine_all()
    for finding in findings:
        word = {True: "pass", False: "FAIL", None: "no"}[finding.ok]
        print(f"{finding.name:<12} {word:<5} {finding.text}")
    if noise:
        tell_noise()
    for name, package, mend in (
        ("torch", "torch", "pip install 'retort[train]' to train"),
        ("litert", "litert_torch", "pip install 'retort[litert]' for .tflite files"),
    ):
        found = find_spec(package) is not None
        print(f"{name:<12} {'found' if found else 'no':<5} {'' if found else mend}".rstrip())
    raise typer.Exit(status)


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
