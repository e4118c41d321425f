"""provenance.json: what a target's files were made of, as an in-toto statement with a SLSA provenance in it.

The subjects are the files by their SHA-256. The materials are what the line read from outside: images, weights, code
and the recipe. Retort names them by the first 80 bits of a SHA-256, of a file's bytes or of the list of a folder's
files, so their digests have a name of their own: ``retort-sha256-80``.

Sources: in-toto Attestation Framework, Statement v1; SLSA Provenance v1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from targets.provenance.manifest import sha256

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
SHORT = "retort-sha256-80"
MATERIALS = {"decode": "data", "teach": "teacher", "distill": "student"}  # the stages that read from outside

Table = Mapping[str, Any]


def artifacts(target: Table, folder: Path) -> dict[str, str]:
    """The SHA-256 of each candidate's file of a report's target, by the file's name."""
    names = sorted({one["artifact"] for one in target["candidates"].values()})
    return {name: sha256(folder / name) for name in names if (folder / name).is_file()}


def materials(report: Table) -> Iterator[dict[str, Any]]:
    """What the line read from outside the store, by digest."""
    if "recipe_sha256" in report:
        yield {"name": f"recipe {report['recipe']}", "digest": {"sha256": report["recipe_sha256"]}}
    for row in report.get("lineage", ()):
        if row["stage"] in MATERIALS:
            for name, digest in sorted(row.get("inputs", {}).items()):
                yield {"name": f"{MATERIALS[row['stage']]}: {name}", "digest": {SHORT: digest}}


def statement(report: Table, target: Table, folder: Path) -> dict[str, Any]:
    """Of the files of one target, which lie in ``folder``."""
    subjects = [
        {"name": name, "digest": {"sha256": found}} for name, found in artifacts(target, folder).items()
    ]
    asked = {"recipe": report["recipe"], "target": target["target"], "device": target["device"]}
    stages = {row["key"]: row.get("parents", {}) for row in report.get("lineage", ())}
    return {
        "_type": STATEMENT,
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:retort:line:1",
                "externalParameters": asked,
                "internalParameters": {"stages": stages},
                "resolvedDependencies": list(materials(report)),
            },
            "runDetails": {
                "builder": {"id": "urn:retort", "version": {"retort": report["retort"]}},
                "metadata": {"finishedOn": report["made"]},
            },
        },
    }
