"""A bundle: all that a target needs to be measured and judged, in one folder, where there is no torch.

``bundle.json`` holds the profile, the budgets, the input contract and the candidates; beside it lie the
candidates' files as exported, the test images and labels, and what the workshop's networks answered to them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import ValidationError

from targets.budgets.evidence import TestSet
from targets.bundle.index import INDEX, File, Index, read_test_set
from targets.convert.target_file import derived, lowering_of
from targets.errors import Refusal, explain, first_line
from targets.limits import Budgets
from targets.measuring.candidate import Candidate
from targets.onnx_file import read
from targets.provenance.manifest import MANIFEST, verify, write_manifest
from targets.regular_file import regular_file
from targets.runner.backends import backend
from targets.runner.files import atomic_write
from targets.spec.contract import Contract
from targets.spec.profile import Profile

FORMAT = 3


@dataclass(frozen=True)
class Bundle:
    """What is measured (candidates, images), by which profile, against which budgets and references."""

    recipe: str
    profile: Profile
    budgets: Budgets
    contract: Contract
    candidates: Sequence[Candidate]
    images: Path
    test_set: TestSet
    networks: Sequence[dict[str, Any]]  # the report's tables of the workshop's networks
    notes: dict[str, Any]  # what else the report tells: lineage, what stayed float
    verified: bool = True  # by its manifest, where it was read


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write it whole: the manifest comes last, so a folder with a manifest is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, INDEX):
        (folder / name).unlink(missing_ok=True)
    for one in bundle.candidates:
        write_candidate(one, bundle, folder)
    place(bundle.images, folder / "images.npy")
    arrays: dict[str, NDArray[Any]] = {"labels": bundle.test_set.labels}
    arrays |= {f"reference.{name}": logits for name, logits in bundle.test_set.references.items()}
    for name, array in arrays.items():
        with atomic_write(folder / f"{name}.npy") as file:
            np.save(file, array)
    index = {
        "format": FORMAT,
        "recipe": bundle.recipe,
        "profile": bundle.profile.model_dump(mode="json"),
        "budgets": bundle.budgets.model_dump(mode="json"),
        "contract": asdict(bundle.contract),
        "candidates": [in_folder(one) for one in bundle.candidates],
        "references": list(bundle.test_set.references),
        "networks": list(bundle.networks),
        "notes": bundle.notes,
    }
    if lowering_of(bundle.profile).command is not None:
        with atomic_write(folder / "NEXT.md") as file:
            file.write(next_steps(bundle, folder).encode())
    with atomic_write(folder / INDEX) as file:
        file.write(json.dumps(index, indent=1).encode())
    write_manifest(folder)


def in_folder(one: Candidate) -> dict[str, Any]:
    """A candidate by the names that its files have in a bundle."""
    lite = f"{one.name}.tflite" if one.lite else None
    return {**asdict(one), "model": f"{one.name}.onnx", "lite": lite}


def read_candidate(one: File, folder: Path) -> Candidate:
    """Raises Refusal for a file that is no model."""
    try:
        read(folder / one.model)
    except Refusal as why:
        raise Refusal(f"{why}; make the bundle again with retort bundle") from None
    files = {"model": folder / one.model, "lite": folder / one.lite if one.lite else None}
    return Candidate(**{**one.model_dump(), **files})


def write_candidate(one: Candidate, bundle: Bundle, folder: Path) -> None:
    """The exported files; for a device that builds its engine itself the derived one, which has passed the linter."""
    path = folder / f"{one.name}.onnx"
    if one.lite is not None:
        place(one.lite, folder / f"{one.name}.tflite")
    if not backend(bundle.profile.backend).builds_there:
        place(one.model, path)
        return
    model = derived(onnx.load(one.model), one.precision, bundle.profile, ()).model
    path.unlink(missing_ok=True)
    onnx.save(model, path)
    objections = lowering_of(bundle.profile).objections(path)
    if objections:
        raise Refusal(f"{bundle.profile.name}: NVIDIA's parser would not take {one.name}: {objections[0]}")


def next_steps(bundle: Bundle, folder: Path) -> str:
    """What to do with a bundle of ONNX files for TensorRT."""
    command = lowering_of(bundle.profile).command
    assert command is not None, "asked only for a lowering that has one"
    commands = [
        command(one.name, one.precision, bundle.contract, bundle.profile) for one in bundle.candidates
    ]
    return "\n".join(
        [
            f"# {bundle.recipe} for {bundle.profile.name}",
            "",
            "Measured and judged from here (the runner is sent along; the board needs Python, numpy and TensorRT):",
            "",
            f"    retort measure {folder} --device ssh://user@board",
            "",
            "By hand on the board, TensorRT's own tool (`sudo nvpmodel -q` says the power mode: note it):",
            "",
            *(f"    {command}" for command in commands),
            "",
        ]
    )


def place(file: Path, to: Path) -> None:
    """A copy: a second name for the store's own file would let an edit of the bundle change the store."""
    if to.exists() and to.samefile(file):
        return
    to.unlink(missing_ok=True)
    shutil.copyfile(file, to)


def read_bundle(folder: Path, unverified: bool = False) -> Bundle:
    """Raises Refusal for a folder that is no bundle, one of another format, or one that its manifest does not fit.

    ``unverified``: it may have no manifest; its ``verified`` says so.
    """
    verified = not unverified or os.path.lexists(folder / MANIFEST)
    if verified and os.path.lexists(folder / INDEX):
        if not os.path.lexists(folder / MANIFEST):
            raise Refusal(
                f"{folder}: no {MANIFEST}; make the bundle again, or take it as it is: --unverified"
            )
        verify(folder)
    try:
        raw = json.loads(regular_file(folder / INDEX).read_text())
        for path in folder.iterdir():
            regular_file(path)  # in a bundle without a manifest they are not looked at yet
        if raw["format"] != FORMAT:
            told = f"a bundle of format {raw['format']}; this Retort reads {FORMAT}"
            raise Refusal(f"{folder}: {told}; make it again with retort bundle")
        index = Index.model_validate(raw)
        return Bundle(
            recipe=index.recipe,
            profile=index.profile,
            budgets=index.budgets,
            contract=index.contract,
            candidates=[read_candidate(one, folder) for one in index.candidates],
            images=folder / "images.npy",
            test_set=read_test_set(folder, index),
            networks=raw["networks"],
            notes=raw["notes"],
            verified=verified,
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refusal(
            f"{folder}: no bundle: {error.filename} is missing; make one with retort bundle"
        ) from None
    except ValidationError as error:
        broken = explain(error, Index)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        broken = f"{type(error).__name__}: {first_line(error)}"
    raise Refusal(f"{folder}: a broken bundle ({broken}); make it again with retort bundle")
