"""The structure of the project, read from its sources: which room imports which.

A room is a folder of ``pipeline`` or ``targets``, or a file beside these folders. ``ROOMS`` lists them from the
bottom up; a file may import from its own room and from rooms below. ``python tests/support/house.py`` draws what it
finds into docs/house.md.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = (
    "targets.runner",
    "targets.errors",
    "targets.progress",
    "targets.regular_file",
    "targets.arrays",
    "targets.image_folder",
    "targets.decoding",
    "targets.stats",
    "targets.budgets",
    "targets.tasks",
    "targets.limits",
    "targets.spec",
    "targets.provenance",
    "targets.onnx_file",
    "targets.devices",
    "targets.convert",
    "targets.measuring",
    "targets.baselines",
    "targets.verdict",
    "targets.report",
    "targets.bundle",
    "targets.gate",
    "targets.quantize",
    "targets.diagnose",
    "pipeline.engine",
    "pipeline.user_code",
    "pipeline.hyperparameters",
    "pipeline.compute",
    "pipeline.data",
    "pipeline.tasks",
    "pipeline.models",
    "pipeline.losses",
    "pipeline.quantization",
    "pipeline.pruning",
    "pipeline.recipe",
    "pipeline.artifacts",
    "pipeline.schemes",
    "pipeline.training",
    "pipeline.search",
    "pipeline.stages",
    "pipeline.plan",
    "pipeline.assembly",
    "pipeline.line",
    "pipeline.cli",
)
BEGIN, END = "<!-- drawn by tests/support/house.py -->", "<!-- to here -->"


def sources() -> list[Path]:
    return sorted(path for name in ("pipeline", "targets") for path in (ROOT / name).rglob("*.py"))


def module_of(path: Path) -> str:
    """``pipeline.data.batches``; a package for its ``__init__``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room of a module; the package itself for ``pipeline`` and ``targets``."""
    return ".".join(module.split(".")[:2])


def imported(path: Path, tree: ast.AST | None = None) -> set[str]:
    """Every module that a file imports anywhere, by its full name; ``from a import b`` is a and a.b."""
    package = list(path.relative_to(ROOT).with_suffix("").parts)
    found: set[str] = set()
    for node in ast.walk(tree or ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: -node.level], *filter(None, [node.module])] if node.level else [node.module]
            module = ".".join(part for part in base if part)
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def arrows() -> set[tuple[str, str]]:
    """(room, room that it imports), for every two that are not the same."""
    found = set()
    for path in sources():
        room = room_of(module_of(path))
        found |= {(room, room_of(module)) for module in imported(path)}
    return {(one, other) for one, other in found if one != other and other in ROOMS}


def drawing() -> str:
    """The arrows as a diagram; one that follows from two others is left out, so that it can be read."""
    found = arrows()
    below = {room: {other for one, other in found if one == room} for room in ROOMS}
    reach: dict[str, set[str]] = {}
    for room in ROOMS:  # from the bottom up, so what lies below is known
        reach[room] = below[room].union(*(reach[other] for other in below[room]))
    lines = ["```mermaid", "graph TD"]
    for one, other in sorted(found):
        if not any(other in reach[between] for between in below[one] - {other}):
            lines.append(f"    {one} --> {other}")
    return "\n".join([*lines, "```"])


def drawn(text: str) -> str:
    """A page with the drawing of today in its place."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{drawing()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    page = ROOT / "docs" / "house.md"
    page.write_text(drawn(page.read_text(encoding="utf-8")), encoding="utf-8")
