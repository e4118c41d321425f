"""The papers of a target's folder: what its files were made of, with what, and last the manifest of all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from targets.progress import say
from targets.provenance.manifest import write_manifest
from targets.provenance.statement import statement
from targets.runner.files import atomic_write

STATEMENT, BILL, CARD = "provenance.json", "sbom.json", "model-card.md"
HOW = "no sbom.json is written: pip install 'retort[provenance]'"


def seal(report: Mapping[str, Any], target: Mapping[str, Any], card: str, folder: Path) -> None:
    """``card`` is the model card's text; the folder holds the target's files."""
    papers = {STATEMENT: pretty(statement(report, target, folder)), CARD: card}
    if find_spec("cyclonedx") is None:
        (folder / BILL).unlink(missing_ok=True)  # an older one would be of other files
        say(HOW)
    else:
        from targets.provenance.sbom import bill

        papers[BILL] = pretty(bill(report, target, folder))
    for name, text in papers.items():
        with atomic_write(folder / name) as file:
            file.write(text.encode())
    write_manifest(folder)


def pretty(table: Mapping[str, Any]) -> str:
    return json.dumps(table, indent=1) + "\n"
