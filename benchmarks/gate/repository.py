"""A repository with a student, its lock and the action: changes that do nothing, and changes that make it slower.

python -m benchmarks.gate.repository --model report/cpu/int8.onnx
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Annotated, Any

import onnx
import typer

from benchmarks.evidence import RESULTS, ROOT, circumstances, finished, rows_of, told, write
from benchmarks.families import write_digits
from benchmarks.gate.traces import variants
from targets.progress import Bar
from targets.spec.contract import read_contract
from targets.spec.profile import read_profile

BUDGETS = "slower_than_baseline=5% drop_vs_baseline=1"
SLOWER = "10.0"
WORDS = {0: "PASS", 1: "FAIL", 3: "INCONCLUSIVE"}


def main(
    model: Annotated[Path, typer.Option(help="The digits student, as deploy leaves it.")],
    times: Annotated[int, typer.Option(help="Of each change.", min=1)] = 20,
    work: Annotated[Path, typer.Option(help="Where the slower file is kept.")] = Path("build/gate"),
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = RESULTS,
) -> None:
    """Judge each change so many times, by the action's own script, and draw the table."""
    profile, contract = read_profile("cpu"), read_contract(onnx.load(model))
    assert contract is not None, "deploy writes it"
    run = circumstances()
    work.mkdir(parents=True, exist_ok=True)
    slow = variants(model, contract, profile, work)[SLOWER]
    with tempfile.TemporaryDirectory(prefix="retort-") as folder, Bar("repository", 2 * times) as bar:
        repository = begin(Path(folder), model)
        rows = []
        for number in range(times):
            for change in ("nothing", "10 % slower"):
                git(repository, "checkout", "--quiet", "-B", "change", "main")
                apply(change, repository, slow, number)
                git(repository, "commit", "--quiet", "-am", change)
                rows.append({"change": change, **judged(repository)})
                bar.step(f"{change}: {rows[-1]['outcome']}")
    table = {"rows": rows, "budgets": BUDGETS, "run": finished(run)}
    write(out, "gate-repository", table, markdown(table))
    print("\n".join(markdown(table)))


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def action_script() -> str:
    """The action's own step that judges."""
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    return textwrap.dedent(text.rpartition("run: |\n")[2].partition("    - if: always()")[0])


def begin(folder: Path, model: Path) -> Path:
    """A repository whose main branch holds the student, the lock and some images."""
    git(folder, "init", "--quiet", "--initial-branch", "main")
    (folder / "student.onnx").write_bytes(model.read_bytes())
    write_digits(folder / "photos")
    retort = [sys.executable, "-m", "pipeline.cli.main"]
    command = [*retort, "lock", str(folder / "student.onnx"), "--images", str(folder / "photos")]
    subprocess.run(
        [*command, "--out", str(folder / "retort.lock")], cwd=ROOT, check=True, capture_output=True
    )
    (folder / ".gitignore").write_text("retort-report\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "accept the student")
    return folder


def apply(change: str, repository: Path, slow: Path, number: int) -> None:
    """Another file each time: what does nothing still has bytes of its own."""
    student = repository / "student.onnx"
    proto = onnx.load(slow if change != "nothing" else student)
    proto.doc_string = f"change {number}"
    onnx.save(proto, student)


def judged(repository: Path) -> dict[str, Any]:
    """What the action's script says of the branch, as a runner of GitHub's would start it."""
    variables = {
        "MODEL": "student.onnx",
        "IMAGES": "photos",
        "BUDGETS": BUDGETS,
        "BASELINE": "",  # so it is retort.lock
        "TARGET": "cpu",
        "COMMENT": "false",
        "PULL": "",
        "NAME": "retort-report",
        "GITHUB_STEP_SUMMARY": os.devnull,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-e", "-c", action_script()],
        cwd=repository,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    report = repository / "retort-report" / "report.json"
    lines = json.loads(report.read_text())["targets"][0]["lines"] if report.exists() else []
    found = {line["budget"]: line["estimate"] for line in lines}.get("slower_than_baseline")
    report.unlink(missing_ok=True)  # an older one is never taken for the next change's
    outcome = WORDS.get(done.returncode, f"status {done.returncode}: {done.stderr.strip()[-200:]}")
    return {"outcome": outcome, "seconds": seconds, "found": found}


def markdown(table: dict[str, Any]) -> list[str]:
    head = (
        "the change",
        "times",
        "PASS",
        "FAIL",
        "INCONCLUSIVE",
        "seconds: median, most",
        "found: least, most",
    )
    cells = []
    for change in dict.fromkeys(row["change"] for row in table["rows"]):
        mine = [row for row in table["rows"] if row["change"] == change]
        outcomes, seconds = [row["outcome"] for row in mine], sorted(row["seconds"] for row in mine)
        counts = (str(outcomes.count(word)) for word in WORDS.values())
        took = f"{seconds[len(seconds) // 2]:.0f}, {seconds[-1]:.0f}"
        values = sorted(row["found"]["value"] for row in mine if row["found"])
        reach = f"{values[0]:+.1f} %, {values[-1]:+.1f} %" if values else "–"
        cells.append((change, str(len(mine)), *counts, took, reach))
    return [
        "# A repository's changes, gated",
        "",
        f"The digits student with `budgets: {table['budgets']}`, by the action's script, against `retort.lock`.",
        "",
        *rows_of(head, cells),
        "",
        *told(table["run"]),
    ]


if __name__ == "__main__":
    typer.run(main)
