"""Names that come with images or files: they steer no terminal, no CI and call nobody in a pull request."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT
from support.report_table import build
from targets.errors import one_line
from targets.limits import Budgets
from targets.report.render import summary
from targets.report.terminal import tell

NAMES = {
    "escape": "cat\x1b]0;title\x07\x1b[2J",
    "command": "cat\n::stop-commands::x",
    "old command": "cat##[error]x",
    "right to left": "cat\u202etac",
    "mention": "cat @octocat and @org/team",
}


def steers(text: str) -> bool:
    lines = [line.strip() for line in text.split("\n")]
    odd = any(not letter.isprintable() for letter in text.replace("\n", ""))
    return odd or any(line.startswith("::") or "##[" in line for line in lines)


@pytest.mark.parametrize("kind", NAMES)
def test_a_class_s_name_is_only_shown(kind: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    budgets = Budgets.model_validate({"worst_class": 10.0, "drop_vs_float": 5.0})
    table = build(classes=3, names=[NAMES[kind] + str(number) for number in range(3)], budgets=budgets)
    table["recipe"] = NAMES[kind]
    tell(table, tmp_path)
    printed = capsys.readouterr().out
    assert "class cat" in printed and not steers(printed)
    text = summary(table)
    assert not any(f"@{word}" in text for word in ("octocat", "org")), text


@pytest.mark.parametrize("kind", NAMES)
def test_nor_does_a_refusal(kind: str, tmp_path: Path) -> None:
    assert not steers(one_line(NAMES[kind]))
    command = [sys.executable, "-m", "pipeline.cli.main", "verify", NAMES[kind]]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 2 and "cat" in done.stderr and not steers(done.stderr)
