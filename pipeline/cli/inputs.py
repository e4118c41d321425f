"""What a user says of a foreign file's input, as options: ``--size 48x192 --channels bgr --range 0..255``."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from targets.errors import Refusal

if TYPE_CHECKING:
    from targets.spec.contract import Said

SizeOption = Annotated[
    str | None, typer.Option(help="Pixels a side, or HEIGHTxWIDTH, where the file does not say.")
]
MeanOption = Annotated[str | None, typer.Option(help="R,G,B in 0..1, if the file wants it subtracted.")]
StdOption = Annotated[str | None, typer.Option(help="R,G,B in 0..1, if the file wants it divided by.")]
ChannelsOption = Annotated[
    Literal["rgb", "bgr", "grey"] | None,
    typer.Option(help="The file's channels; rgb, or grey where it has one."),
]
RangeOption = Annotated[
    Literal["0..1", "0..255", "-1..1"] | None,
    typer.Option("--range", help="Of the values, before mean and std; 0..1."),
]
ResizeOption = Annotated[
    str | None,
    typer.Option(
        help="What an image's shorter side is scaled to, or HEIGHTxWIDTH, before its middle is cut."
    ),
]
InterpolationOption = Annotated[
    Literal["bilinear", "bicubic"] | None, typer.Option(help="How images are scaled; bilinear.")
]


def said_of(
    size: str | None,
    mean: str | None,
    std: str | None,
    channels: Literal["rgb", "bgr", "grey"] | None,
    range_: Literal["0..1", "0..255", "-1..1"] | None,
    resize: str | None,
    interpolation: Literal["bilinear", "bicubic"] | None,
) -> Said:
    """The options in their order. Raises Refusal for one that cannot be read."""
    from targets.spec.contract import Said

    numbers = colours(mean, "--mean"), colours(std, "--std")
    if bool(numbers[0]) != bool(numbers[1]):
        raise Refusal(
            "--mean and --std go together: give both, such as --mean 0.5,0.5,0.5 --std 1,1,1, or neither"
        )
    if not all(map(isfinite, numbers[0] + numbers[1])) or any(spread <= 0 for spread in numbers[1]):
        raise Refusal(f"--mean {mean} --std {std}: finite numbers are wanted, and a std above 0")
    sides, scaled = pair(size, "--size"), pair(resize, "--resize")
    shorter = scaled[0] if scaled is not None and "x" not in str(resize) else scaled
    return Said(sides, *numbers, channels, range_, shorter, interpolation)


def pair(text: str | None, option: str) -> tuple[int, int] | None:
    """``224`` as a square, ``48x192`` as height and width."""
    if text is None:
        return None
    parts = text.split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise Refusal(f"{option} {text}: write pixels a side, such as 224, or height x width, such as 48x192")
    return int(parts[0]), int(parts[-1])


def colours(text: str | None, option: str) -> tuple[float, ...]:
    """``0.5,0.5,0.5`` as three numbers, ``0.5`` as one, of grey; nothing as none."""
    try:
        numbers = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        numbers = (0.0, 0.0)
    if len(numbers) not in (0, 1, 3):
        raise Refusal(
            f"{option} {text}: write three numbers, such as 0.485,0.456,0.406, or one for grey images"
        )
    return numbers
