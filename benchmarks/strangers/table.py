"""The table of what came of each subject, and below it every line that was said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.evidence import rows_of, told
from benchmarks.strangers.constructs import NAMES
from benchmarks.strangers.networks import NETWORKS
from benchmarks.strangers.steps import STEPS

HEAD = {
    "check": "check",
    "float": "float export",
    "ptq": "ptq",
    "qat": "qat",
    "prune": "prune",
    "onnxruntime": "int8 on ONNX Runtime",
    "openvino": "int8 on OpenVINO",
    "foreign": "retort quantize",
    "tflite": ".tflite",
}


def markdown(table: dict[str, Any]) -> list[str]:
    rows = {row["name"]: row for row in table["rows"]}
    lines = [
        "# Networks and constructs of others, step by step",
        "",
        "ok, refused (by what is tried at the door) or finding. Numbers: convolutions and products in int8 of all;"
        " the largest difference of the answers to 16 random images over their reach, of ptq from float's, of a file"
        " from the grid's (computed operator by operator; of `retort quantize` from float's); equal answers. Weights"
        " are random and batch-norms have statistics of random images, so equal answers say little of deep ones.",
        "",
    ]
    for title, names in (("Networks", tuple(NETWORKS)), ("Constructs", NAMES)):
        lines += [f"## {title}", "", summary(names, rows), ""]
        lines += [*rows_of((title.lower(), *HEAD.values()), [row_of(name, rows) for name in names]), ""]
        lines += [*said(names, rows), ""]
    return [*lines, *told(table["run"])]


def summary(names: Sequence[str], rows: dict[str, Any]) -> str:
    run = [row for row in (rows.get(name, {}) for name in names) if was_run(row)]
    whole = sum(
        all(cell["state"] == "ok" for cell in row["cells"].values()) and not row.get("ended") for row in run
    )
    return f"{whole} of {len(run)} ok in every step; {len(names) - len(run)} of {len(names)} not run."


def was_run(row: dict[str, Any]) -> bool:
    """Whether a subject came to a step, or to its end before the first; one that was skipped did not."""
    return bool(row.get("cells") or row.get("ended"))


def row_of(name: str, rows: dict[str, Any]) -> Sequence[str]:
    cells = rows.get(name, {}).get("cells", {})
    if not cells:
        return (name, *["not run"] * len(STEPS))
    return (name, *(shown(step, cells.get(step)) for step in STEPS))


def shown(step: str, cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "not run"
    if cell["state"] != "ok":
        return {"not reached": "–"}.get(cell["state"], f"**{cell['state']}**")
    parts = [f"{cell['int8']}/{cell['of']}"] if "int8" in cell else []
    parts += [f"{cell['apart']:.2g}"] if "apart" in cell else []
    parts += [f"{cell['same']:.0%}"] if "same" in cell else []
    return ", ".join(parts) or "ok"


def said(names: Sequence[str], rows: dict[str, Any]) -> list[str]:
    """Every refusal and finding in its own words, and what stays float on ONNX Runtime."""
    lines = []
    for name in names:
        row = rows.get(name, {})
        for step, cell in row.get("cells", {}).items():
            if cell["state"] in ("refused", "finding"):
                lines.append(f"- {name}, {HEAD[step]}: {cell['state']}: {cell['line']}")
        lines += [f"- {name}: {row[key]}" for key in ("ended", "skipped") if key in row]
        floats = row.get("cells", {}).get("onnxruntime", {}).get("left_float", {})
        counts = {why: list(floats.values()).count(why) for why in dict.fromkeys(floats.values())}
        lines += [f"- {name}, float on ONNX Runtime: {count} × {why}" for why, count in counts.items()]
    return lines
