"""What a user says of a foreign file's input, as options: ``--size 48x192 --channels bgr --range 0..255``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

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
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    channels: ChannelsOption = None,
    range_: RangeOption = None,
    resize: ResizeOption = None,
    interpolation: InterpolationOption = None,
) -> Said:
    """The options together. Raises Refusal for one that cannot be read."""
    from targets.spec.contract import Said

    sides, scaled = pair(size, "--size"), pair(resize, "--resize")
    shorter = scaled[0] if scaled is not None and "x" not in str(resize) else scaled
    return Said(
        sides, colours(mean, "--mean"), colours(std, "--std"), channels, range_, shorter, interpolation
    )


def with_inputs(command: Callable[..., None]) -> Callable[..., None]:
    """A command that has the options of ``said_of`` in place of its own parameter ``said``, for typer to find."""
    own, options = parameters(command), parameters(said_of)
    names = {one.name for one in options}

    @wraps(command)
    def run(**given: Any) -> None:
        said = said_of(**{name: given.pop(name) for name in names})
        command(said=said, **given)

    shown = [one for one in own if one.name != "said"]
    shown += [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in options]
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in shown}
    return run


def parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    """A function's parameters, their annotations no longer text; ``Said`` itself would bring numpy and onnx."""
    hints = get_type_hints(function, localns={"Said": object}, include_extras=True)
    return [
        one.replace(annotation=hints[one.name]) for one in inspect.signature(function).parameters.values()
    ]


def pair(text: str | None, option: str) -> tuple[int, int] | None:
    """``224`` as a square, ``48x192`` as height and width."""
    if text is None:
        return None
    parts = text.split("x")
    if len(parts) > 2 or not all(part.isdecimal() and len(part) < 6 and int(part) for part in parts):
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
