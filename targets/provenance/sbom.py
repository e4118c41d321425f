"""sbom.json: a CycloneDX bill of materials of a target's files: packages, images, weights, code."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import distributions, packages_distributions
from pathlib import Path
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from targets.provenance.statement import artifacts, materials

Table = Mapping[str, Any]


def bill(report: Table, target: Table, folder: Path) -> dict[str, Any]:
    """Of the files of one target, which lie in ``folder``."""
    files = [model(name, found) for name, found in artifacts(target, folder).items()]
    shipped = Component(
        name="retort", version=report["retort"], type=ComponentType.APPLICATION, bom_ref="retort"
    )
    made = BomMetaData(component=shipped, timestamp=datetime.fromisoformat(report["made"]))
    bom = Bom(components=[*files, *read_from_outside(report), *packages(report)], metadata=made)
    bom.register_dependency(shipped, files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a target of which no file could be made
        written: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    return written


def model(name: str, sha256: str) -> Component:
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]
    return Component(
        name=name, type=ComponentType.MACHINE_LEARNING_MODEL, hashes=hashes, bom_ref=f"file {name}"
    )


def read_from_outside(report: Table) -> Iterator[Component]:
    for number, one in enumerate(materials(report)):
        kind = ComponentType.DATA if one["name"].startswith(("data:", "recipe ")) else ComponentType.FILE
        digests = [Property(name=f"retort:{name}", value=found) for name, found in one["digest"].items()]
        yield Component(name=one["name"], type=kind, properties=digests, bom_ref=f"material {number}")


def packages(report: Table) -> Iterator[Component]:
    """Those that the stages used when they ran, and those that are installed where the report is written."""
    found = {(one.name, one.version) for one in distributions()}
    names = packages_distributions()  # a stage knows a package by the name that it is imported under
    for row in report.get("lineage", ()):
        used = row.get("versions", {}).items()
        found |= {(names.get(name, [name])[0], version) for name, version in used if version}
    for name, version in sorted(found):
        purl = PackageURL("pypi", name=name.lower().replace("_", "-"), version=version)
        yield Component(
            name=name, version=version, type=ComponentType.LIBRARY, purl=purl, bom_ref=purl.to_string()
        )
