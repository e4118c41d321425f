"""A bundle that somebody else has made: whatever is in it, it is read or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from targets.bundle.bundle import Bundle, read_bundle, write_bundle
from targets.errors import Refusal
from targets.provenance.manifest import write_manifest

Make = Callable[..., Bundle]


SCORE = {"value": 1, "low": 1, "high": 1}
ROW = {"name": "student", "macs": 1, "parameters": 1, "accuracy": SCORE}
FLOAT = {"name": "float", "model": "float.onnx", "precision": "float32"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"notes": []}, "notes"),
        ({"notes": {"lineage": [{"key": "a", "stage": "teach"}]}}, "notes.lineage.0.seconds: missing"),
        ({"notes": {"made_by": [{"name": 3, "stage": "teach"}]}}, "notes.made_by.0.name"),
        ({"networks": [{**ROW, "recall": []}]}, "a recall for each class"),
        ({"networks": [{**ROW, "macs": "many", "recall": []}]}, "networks.0.macs"),
        ({"networks": [{**ROW, "accuracy": {**SCORE, "low": "1"}, "recall": []}]}, "student: accuracy: low"),
        ({"networks": [{**ROW, "accuracy": 1, "recall": []}]}, "student: accuracy: "),
        ({"candidates": []}, "candidates"),
        ({"candidates": [FLOAT, FLOAT]}, "candidates: two have one name"),
        (
            {"candidates": [{**FLOAT, "name": "baseline"}]},
            "candidates: two have one name, or one of baseline",
        ),
        ({"recipe": {}}, "recipe"),
        ({"references": {"teacher": 1}}, "references"),
    ],
)
def test_a_bundle_that_says_what_cannot_be_is_refused(
    make: Make, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    write_bundle(make(), tmp_path / "bundle")
    path = tmp_path / "bundle" / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    write_manifest(tmp_path / "bundle")
    with pytest.raises(Refusal, match=told) as caught:
        read_bundle(tmp_path / "bundle")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["labels.npy", "images.npy", "reference.teacher.npy", "float.onnx"])
@pytest.mark.parametrize("change", [lambda data: data[:-3], lambda data: b"", lambda data: b"\xff" * 99])
def test_a_file_of_a_bundle_that_is_none_is_refused(
    make: Make, tmp_path: Path, name: str, change: Callable[[bytes], bytes]
) -> None:
    write_bundle(make(), tmp_path / "bundle")
    path = tmp_path / "bundle" / name
    path.write_bytes(change(path.read_bytes()))
    write_manifest(tmp_path / "bundle")
    with pytest.raises(Refusal, match="again"):
        read_bundle(tmp_path / "bundle")
