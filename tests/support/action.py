"""A stand-in for GitHub's runner: it does what a composite action's file says, with stand-ins for programs.

It knows ``if: always()`` and the default, ``${{ … }}`` of known names, environments, and bash as GitHub starts it;
what the file has beyond that is an error here.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from support import ROOT

BASH = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail")
# Each writes down what it is told, a line of JSON; "retort" and "gh" then do what a case says.
PROGRAM = """#!{python}
import json, os, pathlib, sys
with open(os.environ["TOLD"], "a") as file:
    file.write(json.dumps([pathlib.Path(sys.argv[0]).name, os.getcwd(), *sys.argv[1:]]) + "\\n")
case, words = json.loads(os.environ["CASE"]), sys.argv[1:]
if pathlib.Path(sys.argv[0]).name == "retort":
    if case["summary"] is not None:
        out = pathlib.Path(words[words.index("--out") + 1])
        out.mkdir(exist_ok=True)
        (out / "summary.md").write_text(case["summary"])
    sys.exit(case["status"])
if pathlib.Path(sys.argv[0]).name == "gh":
    if "--jq" in words:
        print("\\n".join(case["comments"]))
    sys.exit(case["gh"])
"""


@dataclass
class Ran:
    """What came of it: the job's status, all that programs were told, the other actions that were used."""

    status: int
    told: list[list[str]]
    used: list[tuple[str, dict[str, str]]]
    said: str
    summary: str


@dataclass
class Runner:
    """A workspace, and the case that the programs stand in for."""

    folder: Path
    inputs: dict[str, str]
    pull: str = ""
    case: dict[str, Any] = field(default_factory=dict)
    programs: tuple[str, ...] = ("python", "retort", "gh")

    def run(self) -> Ran:
        action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
        unknown = set(self.inputs) - set(action["inputs"])
        assert not unknown, f"GitHub warns of {unknown}"
        given = {name: one.get("default", "") for name, one in action["inputs"].items()} | self.inputs
        known = {f"inputs.{name}": value for name, value in given.items()}
        known |= {"github.action_path": str(ROOT), "github.token": "token"}
        known["github.event.pull_request.number"] = self.pull
        for place in ("bin", "temp", "workspace"):
            (self.folder / place).mkdir(exist_ok=True)
        for name in self.programs:
            program = self.folder / "bin" / name
            program.write_text(PROGRAM.format(python=sys.executable))
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        (self.folder / "told").touch()
        (self.folder / "summary").write_text("")
        status, used, said = 0, [], ""
        for step in action["runs"]["steps"]:
            assert set(step) <= {"uses", "with", "if", "shell", "env", "run"}, step
            assert step.get("if", "always()") == "always()"
            if status and "if" not in step:
                continue
            if "uses" in step:
                used.append((step["uses"], {name: filled(one, known) for name, one in step["with"].items()}))
                continue
            assert step["shell"] == "bash" and "${{" not in step["run"], "an expression in a script is code"
            done = self.script(step["run"], {name: filled(one, known) for name, one in step["env"].items()})
            status, said = status or done.returncode, said + done.stdout + done.stderr
        told = [json.loads(line) for line in (self.folder / "told").read_text().splitlines()]
        return Ran(status, told, used, said, (self.folder / "summary").read_text())

    def script(self, text: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        (self.folder / "script.sh").write_text(text)
        own = {
            "PATH": f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "GITHUB_REPOSITORY": "someone/nets",
            "RUNNER_TEMP": str(self.folder / "temp"),
            "TOLD": str(self.folder / "told"),
            "CASE": json.dumps({"status": 0, "summary": "verdict", "comments": [], "gh": 0} | self.case),
        }
        return subprocess.run(
            [*BASH, str(self.folder / "script.sh")],
            cwd=self.folder / "workspace",
            env={**os.environ, **own, **environment},
            capture_output=True,
            text=True,
            check=False,
        )


def filled(text: str, known: dict[str, str]) -> str:
    return re.sub(r"\$\{\{ (\S+) \}\}", lambda found: known[found[1]], str(text))
