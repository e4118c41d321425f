"""What an installation is made of is fixed: by the SHA-256 of every file, and by the commit of every action."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support import ROOT
from targets.devices import emulator

PIN = re.compile(r"^(\S+?)==(\S+)((?: ;.*)?)((?: ?\\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)
ACTIONS = [ROOT / "action.yml", *sorted((ROOT / ".github" / "workflows").glob("*.yml"))]


def pinned(file: Path) -> dict[str, str]:
    text = file.read_text()
    found = PIN.findall(text)
    assert "".join(f"{name}=={number}{where}{hashes}\n" for name, number, where, hashes in found) == text
    return {canonicalize_name(name): number for name, number, *_ in found}


def tested() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    return {canonicalize_name(name): number for name, number in (line.split("==") for line in lines)}


def test_the_base_install_is_pinned_by_hashes_in_the_tested_versions() -> None:
    found = pinned(ROOT / "requirements" / "base.txt")
    assert {name: tested().get(name) for name in found if name != "colorama"} == {
        name: number
        for name, number in found.items()
        if name != "colorama"  # Windows's alone
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for line in (*project["project"]["dependencies"], *project["build-system"]["requires"]):
        needed = Requirement(line)
        assert needed.specifier.contains(found[canonicalize_name(needed.name)]), line


@pytest.mark.parametrize("path", ACTIONS, ids=lambda path: path.name)
def test_an_action_s_steps_are_named_by_commit(path: Path) -> None:
    used = re.findall(r"uses: (\S+)", path.read_text())
    assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one) for one in used), used


def test_the_emulator_s_wheels_are_pinned_by_hashes_in_the_tested_versions() -> None:
    found = pinned(emulator.PINNED)
    assert set(found) == set(emulator.WHEELS) and found.items() <= tested().items()
