"""The latency ladder: what each step buys on a processor, beside what others' tools give on the same network.

float → the runtime's own float → int8 on our grid → pruned → pruned int8, and onnxruntime's quantize_static and
NNCF at their defaults; all candidates of a network and a runtime in turns, one thread, one image, in several
fresh processes. A figure is a share of float32's latency in the same rounds, with its interval over processes:
milliseconds on a shared machine drift by half, paired rounds do not. The evidence is
results/ladder.md; weights are random, so nothing here speaks of accuracy.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.contenders import IMAGES, NNCF, Made, Subject, make, static_settings, subject
from benchmarks.evidence import RESULTS, busy, circumstances, cores_busy, finished, rows_of, told, write
from targets.devices.connect import open_device
from targets.errors import Unmeasurable
from targets.measuring.bench import Bench
from targets.measuring.candidate import Candidate
from targets.progress import Bar
from targets.spec.profile import read_profile
from targets.stats.intervals import Blocks, Estimate, quantile, ratio

NETWORKS, TARGETS = ("resnet18", "mobilenet_v2", "resnet20"), ("cpu", "openvino")
PROCESSES, SECONDS, ASKED = 5, 6.0, 16
QUICK_PROCESSES, QUICK_SECONDS = 2, 0.5
OTHERS_BUSY = 0.25  # cores: above it somebody else worked while we were about to time
ABOUT = {
    "float": "float32, the reference",
    "native": "the runtime's own float",
    "int8": "our grid, calibrated",
    "pruned-float": "half the multiply-adds, float32",
    "pruned-native": "the same, the runtime's own float",
    "pruned-int8": "the same, our grid",
    "ort-static": "quantize_static, defaults",
    "ort-static-u8": "quantize_static, u8 and per channel",
    "nncf": "nncf.quantize, defaults",
}


def main(
    network: Annotated[list[str] | None, typer.Option(help="Ours or torchvision's; repeat.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="A profile of this machine; repeat.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run: resnet20, short times.")] = False,
    seconds: Annotated[float, typer.Option(help="Timed rounds of all candidates, a process.")] = SECONDS,
    processes: Annotated[int, typer.Option(help="Fresh processes; intervals need two.", min=2)] = PROCESSES,
    out: Annotated[Path | None, typer.Option(help="Where the results go.")] = None,
) -> None:
    """Measure the ladder and print it as Markdown; ladder.json and ladder.md are its evidence.

    A --quick run is no evidence: it writes only where --out says.
    """
    names = network or (["resnet20"] if quick else list(NETWORKS))
    targets = target or list(TARGETS)
    if quick:
        processes, seconds = QUICK_PROCESSES, QUICK_SECONDS
    run, groups = circumstances(), []
    folder = out or (None if quick else RESULTS)
    with Bar("ladder", len(names) * len(targets) * (processes + 2)) as bar:
        for name in names:
            one = subject(name)
            for each in targets:
                groups.append(group(one, each, processes, seconds, bar))
                table = {"quick": quick, "groups": groups, "static": static_settings(), "run": finished(run)}
                # After each: who stops it keeps what is known.
                if folder is not None:
                    write(folder, "ladder", table, markdown(table))
    print("\n".join(markdown(table)))


def group(one: Subject, target: str, processes: int, seconds: float, bar: Bar) -> dict[str, Any]:
    """All candidates of one network on one runtime, in turns."""
    profile = read_profile(target)
    head = {"network": one.name, "size": one.contract.size[0], "target": target, "backend": profile.backend}
    with tempfile.TemporaryDirectory(prefix="ladder-") as work, open_device("local") as device:
        made = make(one, profile, Path(work) / "made")
        bar.step(f"{one.name} for {target}: files made")
        np.save(Path(work) / "asked.npy", one.data.images[:ASKED])
        try:
            bench = Bench(device, profile, one.contract, Path(work) / "asked.npy", Path(work))
        except Unmeasurable as why:
            bar.step(by=processes + 1)
            return {**head, "rows": [], "missing": {"all": str(why)}}
        facts, logits = examine(bench, made)
        bar.step(f"{one.name} on {target}: built")
        others, timed = [cores_busy()], []
        for seed in range(processes):
            timed.append(bench.time(made.candidates, seconds, seed)["blocks"])
            bar.step(f"{one.name} on {target}: timed {seed + 1} of {processes}")
        others.append(cores_busy())
    blocks = {name: [process[name] for process in timed] for name in facts}
    return {
        **head,
        "threads": profile.threads,
        "batch": profile.batch,
        "processes": processes,
        "seconds": seconds,
        "macs_pruned": made.macs,
        "channel_multiple": profile.channel_multiple,
        "cores_busy_by_others": others,
        "rows": [row(name, blocks, facts[name], logits) for name in facts],
        "missing": made.missing,
    }


def examine(bench: Bench, made: Made) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What runs of each file that the runtime takes, and its answers; one that it does not take is missing."""
    facts, logits = {}, {}
    for one in list(made.candidates):
        try:
            built = bench.build(one)
            answers, memory = bench.ask(one)
        except Unmeasurable as why:
            made.missing[one.name] = str(why)
            made.candidates.remove(one)
            continue
        facts[one.name] = {**built, "size": size(bench, one), "memory": memory}
        logits[one.name] = answers
    return facts, logits


def size(bench: Bench, one: Candidate) -> int:
    return bench.artifact(one).stat().st_size


def row(
    name: str, blocks: dict[str, Blocks], facts: dict[str, Any], logits: dict[str, Any]
) -> dict[str, Any]:
    """One candidate: its share of float32's latency, what runs in int8, how far its answers are off."""
    share = ratio(blocks[name], blocks["float"])
    reference = logits["pruned-float" if name.startswith("pruned-") else "float"]
    off = np.linalg.norm(logits[name] - reference) / np.linalg.norm(reference)
    return {
        "name": name,
        "ratio": asdict(share),
        "verdict": verdict(name, share),
        "median_ms": 1000 * quantile(blocks[name], 0.5).value,
        "calls": sum(len(block) for process in blocks[name] for block in process),
        "int8_operators": facts["int8_operators"],
        "float_operators": len(facts["float_operators"]),
        "rewrite": facts["rewrite"],
        "size_bytes": facts["size"],
        "memory_bytes": facts["memory"],
        "answers_off": float(off),
    }


def verdict(name: str, share: Estimate) -> str:
    """Whether it is faster than float32 for sure."""
    if name == "float":
        return ""
    if share.high < 1:
        return "faster"
    return "SLOWER than float" if share.low > 1 else "NOT faster than float"


def markdown(table: dict[str, Any]) -> list[str]:
    title = "# Latency ladder" + (" (smoke run: no evidence)" if table["quick"] else "")
    lines = [title, "", *busy(table["run"]), *warnings(table["groups"]), *told(table["run"]), ""]
    for one in table["groups"]:
        lines += [f"## {one['network']}, {one['size']} px, {one['backend']}", "", *body(one), ""]
    return [
        *lines,
        "Share: of float32's latency in the same rounds, 95 % interval over processes (Student). Faster only"
        " where the whole interval is. int8 + float: operators that the runtime says it runs in int8 (OpenVINO:"
        " convolutions and matrix products alone), and heavy ones left in float. Answers off: relative distance"
        " of the logits from the float32 file's (pruned: from the pruned float32's); weights are random, so a"
        " large one does not tell accuracy, but a broken file. Medians in ms are of this run and drift.",
        "",
        f"All calibrated on the same {IMAGES} seeded random images. quantize_static's defaults:"
        f" {table['static']}; ort-static-u8 has QUInt8 activations and per_channel=True instead. Files of"
        " others' tools run as they are, with the runtime's default precision for what stays float."
        f" NNCF {NNCF['nncf']} has an environment of its own.",
    ]


def warnings(groups: list[dict[str, Any]]) -> list[str]:
    """A line for each group that others disturbed, before or after."""
    lines = []
    for one in groups:
        seen = [value for value in one.get("cores_busy_by_others", []) if value is not None]
        if max(seen, default=0.0) > OTHERS_BUSY:
            where = f"{one['network']} on {one['target']}"
            lines += [f"**WARNING: others worked beside {where}**: {seen} cores before and after timing.", ""]
    return lines


def body(one: dict[str, Any]) -> list[str]:
    missing = [f"Not measured: {name}: {why}" for name, why in one["missing"].items()]
    if not one["rows"]:
        return missing
    head = (
        "candidate",
        "what",
        "share of float32",
        "",
        "int8 + float",
        "off",
        "MB",
        "ms",
        "calls",
        "verdict",
    )
    return [
        *rows_of(head, [cells(found) for found in one["rows"]]),
        "",
        f"{one['processes']} processes of {one['seconds']:g} s, {one['threads']} thread, batch {one['batch']};"
        f" pruned to {one['macs_pruned']:.1%} of the multiply-adds in multiples of {one['channel_multiple']}.",
        *(f"\n{line}" for line in missing),
    ]


def cells(found: dict[str, Any]) -> tuple[str, ...]:
    share = found["ratio"]
    return (
        found["name"],
        ABOUT[found["name"]],
        f"{share['value']:.3f} [{share['low']:.3f}, {share['high']:.3f}]",
        f"{1 / share['value']:.2f}×",
        f"{found['int8_operators']} + {found['float_operators']}",
        f"{found['answers_off']:.3f}",
        f"{found['size_bytes'] / 1e6:.2f}",
        f"{found['median_ms']:.2f}",
        f"{found['calls']:,}",
        found["verdict"],
    )


if __name__ == "__main__":
    typer.run(main)
