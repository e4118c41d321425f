"""Nine families of torchvision go the whole line: distil, cut to half the multiply-adds, retrain, int8, ONNX.

What is shown is that a family passes, or the line's own words where it does not: a network that no tracer, no
quantizer or no exporter of the line has seen is where such lines break. Accuracy is none of it (400 images,
one epoch), and neither is speed (``ladder`` is for that). The evidence is results/families.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.evidence import RESULTS, ROOT, circumstances, commit, finished, now, rows_of, told, write
from targets.progress import Bar

SIZE, IMAGES_A_CLASS, SHARE, LIMIT_S = 64, 40, 0.5, 900
FAMILIES: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "mobilenet_v2": {},
    "mobilenet_v3_small": {},
    "squeezenet1_1": {},
    "efficientnet_b0": {},
    "regnet_y_400mf": {},
    "vgg11_bn": {},
    "googlenet": {"aux_logits": False, "init_weights": True},
    "densenet121": {},
}
# No budgets: a run that is judged by nothing passes when all of it ran.
RECIPE = """
version = 1
data = {{ folder = "digits", size = {size}, test = 0.2, flip = false }}
teacher = {{ network = "resnet8", epochs = 1 }}
student = {{ network = "{network}", arguments = {{ {arguments} }} }}
distill = {{ epochs = 1, lr = 0.02 }}
prune = {{ macs = {share}, epochs = 1 }}
quantize = {{ method = "{method}", epochs = 1, calibration = 64 }}
budgets = {{}}
"""
STATUS = {0: "passed", 1: "budget failed", 2: "refused", 3: "not measured or not decided"}
FLOAT_CONVOLUTIONS = ("Conv", "FusedConv")


def main(
    family: Annotated[list[str] | None, typer.Option(help="One of the families; repeat.")] = None,
    method: Annotated[str, typer.Option(help="ptq, or qat with an epoch.")] = "ptq",
    target: Annotated[str, typer.Option(help="A built-in target's name.")] = "cpu",
    work: Annotated[Path | None, typer.Option(help="A folder to go on in; else a fresh one.")] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Send families through the line, one after another, and say how far each came."""
    chosen = family or list(FAMILIES)
    unknown = [name for name in chosen if name not in FAMILIES]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}; known: {', '.join(FAMILIES)}")
    before, rows = circumstances(), kept(out, chosen, method, target)
    with tempfile.TemporaryDirectory(prefix="families-") as fresh, Bar("families", len(chosen)) as bar:
        folder = (work or Path(fresh)).resolve()
        # Written once: a stage's key holds the images' times.
        if not (folder / "digits").exists():
            write_digits(folder / "digits")
        profile = write_profile(folder, target)
        for name in chosen:
            rows[name] = {**through(name, method, profile, folder), "when": now(), "source": commit()}
            bar.step(f"{name}: {rows[name]['status']}")
            # After each: who stops it keeps what is known.
            found = [rows[each] for each in FAMILIES if each in rows]
            table = {"target": target, "method": method, "rows": found, "run": finished(before)}
            write(out, "families", table, markdown(table))
    print("\n".join(markdown(table)))


def kept(out: Path, chosen: Sequence[str], method: str, target: str) -> dict[str, dict[str, Any]]:
    """The rows of an earlier run of the same kind for families that are not asked for; each says when it was."""
    file = out / "families.json"
    if not file.exists():
        return {}
    table = json.loads(file.read_text(encoding="utf-8"))
    if (table["method"], table["target"]) != (method, target):
        return {}
    return {row["family"]: row for row in table["rows"] if row["family"] not in chosen}


def write_digits(folder: Path) -> None:
    """scikit-learn's digits as a folder of class folders of PNGs, the way a user's images come."""
    from PIL import Image
    from sklearn.datasets import load_digits

    bunch = load_digits()
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
        pictures = bunch.images[bunch.target == digit][:IMAGES_A_CLASS]
        for number, grey in enumerate((pictures * (255 / 16)).round().astype("uint8")):
            Image.fromarray(grey).save(folder / str(digit) / f"{number:03}.png")


def write_profile(folder: Path, target: str) -> Path:
    """The target's own profile, timed for a second only: the time is not what is asked for here."""
    from targets.spec.profile import profiles

    path = folder / f"{target}.toml"
    text = profiles()[target].read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if not line.startswith("seconds")]
    path.write_text("\n".join(["seconds = 1.0", *kept]), encoding="utf-8")
    return path


def through(name: str, method: str, profile: Path, work: Path) -> dict[str, Any]:
    """One family through ``retort deploy``: how it ended, and what its report and its store tell."""
    arguments = ", ".join(f"{key} = {json.dumps(value)}" for key, value in FAMILIES[name].items())
    recipe, out = work / f"{name}.toml", work / f"report-{name}"
    text = RECIPE.format(network=name, arguments=arguments, size=SIZE, share=SHARE, method=method)
    recipe.write_text(text, encoding="utf-8")
    # An older report is never taken for this run's.
    (out / "report.json").unlink(missing_ok=True)
    where = ["--out", str(out), "--store", str(work / "store")]
    command = ["deploy", str(recipe), "--target", str(profile), *where]
    started = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli.main", *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        status, said = STATUS.get(done.returncode, f"status {done.returncode}"), done.stderr
    except subprocess.TimeoutExpired:
        status, said = "stopped", f"retort: not done in {LIMIT_S} s"
    seconds = round(time.monotonic() - started, 1)
    row: dict[str, Any] = {"family": name, "status": status, "seconds": seconds, "error": None}
    report = out / "report.json"
    if not report.exists():
        lines = [line for line in said.splitlines() if line.strip()] or ["nothing said"]
        # What a stage itself said before the line's own last word, such as a traceback.
        return {**row, "error": lines[-1].removeprefix("retort: "), "said": lines[-6:-1]}
    table = json.loads(report.read_text(encoding="utf-8"))
    if not table["targets"][0]["candidates"]:
        return {**row, "error": table["targets"][0]["reason"]}
    found = facts(table)
    # What a kept store already had counts too: a run that goes on shows the same seconds as one at a stretch.
    return {**row, **found, "seconds": round(sum(found["stages"].values()), 1)}


def facts(table: dict[str, Any]) -> dict[str, Any]:
    """What was left of the network by the cut, and how many of its convolutions run in int8."""
    networks = {one["name"]: one for one in table["networks"]}
    student, pruned = networks["student"], networks["pruned"]
    found = table["targets"][0]["candidates"]["pruned-int8"]
    counts = found["facts"]["operators"]
    int8 = counts.get("QLinearConv", 0)
    return {
        "macs": pruned["macs"] / student["macs"],
        "parameters": [student["parameters"], pruned["parameters"]],
        "int8_convolutions": int8,
        "convolutions": int8 + sum(counts.get(kind, 0) for kind in FLOAT_CONVOLUTIONS),
        "left_float": len(found["facts"]["float_operators"]),
        "stages": {row["key"]: row["seconds"] for row in table["lineage"]},
    }


def markdown(table: dict[str, Any]) -> list[str]:
    head = ("family", "MACs left", "parameters", "int8 convolutions", "status", "seconds", "source", "error")
    absent = [name for name in FAMILIES if name not in [row["family"] for row in table["rows"]]]
    passed = sum(row["status"] == "passed" for row in table["rows"])
    return [
        f"# Families through the line ({table['method']}, target {table['target']})",
        "",
        f"{passed} of {len(FAMILIES)} passed. Goal: {SHARE:.0%} of the multiply-adds, {SIZE} px,"
        f" {10 * IMAGES_A_CLASS} images, an epoch a stage; the pruned int8 file's convolutions as the runtime"
        " runs them. Accuracy and speed are not what this shows. Seconds: of its stages.",
        "",
        *rows_of(head, [cells(row) for row in table["rows"]]),
        "",
        *([f"Not run: {', '.join(absent)}.", ""] if absent else []),
        *told(table["run"]),
    ]


def cells(row: dict[str, Any]) -> Sequence[str]:
    error = (row["error"] or "").replace("|", "\\|")
    if "macs" not in row:
        return (row["family"], "–", "–", "–", row["status"], f"{row['seconds']:.0f}", row["source"], error)
    before, after = row["parameters"]
    return (
        row["family"],
        f"{row['macs']:.1%}",
        f"{before:,} → {after:,}",
        f"{row['int8_convolutions']} of {row['convolutions']}",
        row["status"],
        f"{row['seconds']:.0f}",
        row["source"],
        error,
    )


if __name__ == "__main__":
    typer.run(main)
