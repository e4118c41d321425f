"""What lies beside the files that ship: whose digests are in it, and that it says what the report says."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from support.report_table import build
from targets.provenance.manifest import verify
from targets.report.table import write_report

CONTENT = {"float.onnx": b"a float network", "int8.onnx": b"an int8 network"}
READ = {"inputs": {"folder": "ab" * 10}, "versions": {"PIL": "13.0.0"}, "parents": {}, "settings": {}}
DATA = {"key": "decode-1", "stage": "decode", "seconds": 1.0, **READ}


@pytest.fixture
def written(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """A report of one target whose files lie in its folder, as a run leaves it."""
    table = build()
    (target,) = table["targets"]
    folder = tmp_path / target["target"]
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    table["lineage"] = [DATA, {**table["lineage"][0], "inputs": {"weights": "cd" * 10}}]
    table["recipe_sha256"] = "ef" * 32
    write_report(table, tmp_path)
    return table, folder


def test_the_folder_fits_its_manifest(written: tuple[dict[str, Any], Path]) -> None:
    files = verify(written[1]).files
    assert {*CONTENT, "provenance.json", "model-card.md"} <= set(files)


def test_the_statement_names_files_and_materials_by_digest(written: tuple[dict[str, Any], Path]) -> None:
    table, folder = written
    said = json.loads((folder / "provenance.json").read_text())
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {one["name"]: one["digest"]["sha256"] for one in said["subject"]}
    assert subjects == {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    definition, details = said["predicate"]["buildDefinition"], said["predicate"]["runDetails"]
    materials = {one["name"]: one["digest"] for one in definition["resolvedDependencies"]}
    assert materials == {
        "recipe digits": {"sha256": "ef" * 32},
        "data: folder": {"retort-sha256-80": "ab" * 10},
        "teacher: weights": {"retort-sha256-80": "cd" * 10},
    }
    assert details["builder"]["version"]["retort"] == table["retort"]
    assert details["metadata"]["finishedOn"] == table["made"]


def test_the_card_tells_what_ships_with_its_figures(written: tuple[dict[str, Any], Path]) -> None:
    table, folder = written
    (target,) = table["targets"]
    card = (folder / "model-card.md").read_text()
    shipped = target["candidates"][target["ship"]]
    assert f"| {shipped['artifact']} | {100 * shipped['accuracy']['value']:.2f} [" in card.replace("\\", "")
    for line in target["lines"]:
        assert f"{line['outcome']}: {line['budget']}".replace("_", "\\_") in card
    assert "Intended use" in card and "1 convolutions and products run in float: last" in card
    worst = min(one["value"] for one in shipped["recall"])
    assert f": {100 * worst:.2f} [" in card.replace("\\", "").split("Recall is lowest")[1]


needs = pytest.mark.skipif(
    importlib.util.find_spec("cyclonedx") is None, reason="pip install 'retort[provenance]'"
)


@needs
def test_the_bill_lists_files_materials_and_packages(written: tuple[dict[str, Any], Path]) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    folder = written[1]
    text = (folder / "sbom.json").read_text()
    try:
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    except Exception as error:  # the schema's own checker is an extra of an extra
        assert type(error).__name__ == "MissingOptionalDependencyException"
    bill = json.loads(text)
    found = {(one["name"], one.get("version")) for one in bill["components"]}
    assert {
        ("int8.onnx", None),
        ("data: folder", None),
        ("pillow", "13.0.0"),
        ("recipe digits", None),
    } <= found
    (int8,) = (one for one in bill["components"] if one["name"] == "int8.onnx")
    digest = hashlib.sha256(CONTENT["int8.onnx"]).hexdigest()
    assert int8["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert int8["type"] == "machine-learning-model"


def test_without_the_library_no_older_bill_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = build()
    folder = tmp_path / table["targets"][0]["target"]
    folder.mkdir()
    (folder / "sbom.json").write_text("of other files")
    monkeypatch.setattr("targets.provenance.seal.find_spec", lambda name: None)
    write_report(table, tmp_path)
    assert "sbom.json" not in verify(folder).files and not (folder / "sbom.json").exists()
