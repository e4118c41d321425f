"""How the networks were made, for the report: what each training, cut and export found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

Table = dict[str, Any]
WIDTH, HEIGHT = 120, 28  # of a curve, in the page's pixels


def trainings(made: Sequence[Table]) -> list[Table]:
    """A row a training: epochs, where validation started, which epoch was kept, and the curves."""
    rows = []
    for one in made:
        history = one.get("training")
        if history is None:
            continue
        validation = [history["start"], *history["validation"]]
        kept = history["best_epoch"] + 1  # epoch 0 is the network as it was given to the training
        rows.append(
            {
                "name": one["name"],
                "epochs": len(history["loss"]),
                "start": 100 * validation[0],
                "kept": 100 * validation[kept],
                "epoch": kept,
                "precision": history["precision"],
                "loss": curve(history["loss"]),
                "validation": curve(validation),
                "given": given(one.get("given")),
            }
        )
    return rows


def given(fitted: Table | None) -> str:
    """What was taken of given weights."""
    if fitted is None:
        return ""
    new = ", ".join(f"{layer}: {why}" for layer, why in fitted["new"].items())
    return f"{fitted['taken']} of {fitted['of']} tensors given" + (f"; new: {new}" if new else "")


def cuts(made: Sequence[Table]) -> list[Table]:
    """A row a pruning: its goal, and what was reached."""
    return [{"name": one["name"], **one["cut"]} for one in made if "cut" in one]


def exports(made: Sequence[Table]) -> list[Table]:
    """A row an exported file: how it differs from torch."""
    return [
        {"name": one["name"], "format": one["format"], **one["difference"]}
        for one in made
        if "difference" in one
    ]


def curve(values: Sequence[float]) -> Markup:
    """A line from left to right, its lowest value at the bottom, in the colour of the text."""
    if len(values) < 2:
        return Markup("")
    low, high = min(values), max(values)
    span, step = (high - low) or 1.0, WIDTH / (len(values) - 1)
    points = (
        f"{step * i:.1f},{HEIGHT - 2 - (HEIGHT - 4) * (v - low) / span:.1f}" for i, v in enumerate(values)
    )
    said = f"from {values[0]:.3g} to {values[-1]:.3g}"
    return Markup(
        f'<svg role="img" aria-label="{said}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        f'<polyline points="{" ".join(points)}" fill="none" stroke="currentColor" stroke-width="1.2"/></svg>'
    )
