"""prove: measure a bundle on a device and judge it; and one report of what several targets showed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from targets.baselines.baseline import comparisons
from targets.budgets.line import Line, outcome
from targets.bundle.agreement_matrix import Proof, agreement_matrix
from targets.bundle.bundle import Bundle
from targets.errors import Unmeasurable
from targets.measuring.measure import measure
from targets.report.table import compose, target_table
from targets.stats.intervals import Estimate
from targets.tasks import TASKS
from targets.verdict import judge, settled, unmeasured

GOALS = {
    "macs": "multiply-adds of the pruned student, the recipe's goal",
    "latency": "int8 latency of the pruned student while it was cut, the recipe's goal",
}
NOTES = ("made_by", "recipe_sha256")  # what a report takes over from a bundle as it is
UNVERIFIED = "the bundle was not verified: it has no manifest.json"


def prove(
    bundle: Bundle, device: str, out: Path, baseline: Path | None = None, accept: bool = False
) -> Proof:
    """Measure a bundle on a device and judge it: its target's part of the report, and the answers.

    ``baseline`` is a file, or a lock that names one, timed in the same rounds; ``accept``: what is not measured may
    pass. What cannot be measured is told as
    such, so that one target's missing runtime stops no other's proof.
    """
    test_set, profile = bundle.test_set, bundle.profile
    try:
        if profile.remote and device == "local" and not profile.stand_in:
            raise Unmeasurable(
                f"no device given; next: retort measure {out / 'bundle'} --device ssh://user@board"
            )
        with tempfile.TemporaryDirectory(prefix="retort-") as work:
            others = comparisons(bundle.budgets, bundle.contract, baseline, Path(work))
            found = measure(
                bundle.candidates,
                bundle.contract,
                profile,
                device,
                bundle.images,
                out,
                others,
                lambda so_far: settled(judge(so_far, bundle.budgets, test_set)),
            )
    except Unmeasurable as why:
        return Proof(target_table(profile, device, unmeasured(bundle.budgets, str(why)), test_set, None), {})
    verdict = judge(found, bundle.budgets, test_set)
    verdict = replace(verdict, accept=accept, lines=[*verdict.lines, *goal_lines(bundle.notes)])
    if not bundle.verified:
        verdict = replace(verdict, reason=f"{verdict.reason}; {UNVERIFIED}")
    table = target_table(profile, device, verdict, test_set, found, bundle.networks)
    answers = {name: one.logits for name, one in found.candidates.items()}
    int8 = [name for name, one in found.candidates.items() if one.precision == "int8"]
    return Proof(table, {} if found.simulated else answers, int8)


def goal_lines(notes: Mapping[str, Any]) -> list[Line]:
    """The recipe's own goals for a cut network, as budgets: one that was missed fails."""
    lines = []
    for cut in (row["cut"] for row in notes.get("made_by", ()) if "cut" in row):
        reached, goal = Estimate(cut["reached"], cut["reached"], cut["reached"]), cut["goal"]
        result = outcome("at_most", cut["share"], reached)
        row = f"pruned_{goal}", cut["share"], "times", result, reached, "the uncut student's"
        lines.append(Line(*row, meaning=GOALS[goal]))
    return lines


def report_of(bundles: Sequence[Bundle], proofs: Sequence[Proof]) -> dict[str, Any]:
    """One report of several targets' proofs; the bundles come of one recipe."""
    first = bundles[0]
    lineage = {row["key"]: row for one in bundles for row in one.notes.get("lineage", [])}
    networks = list(first.networks)
    for one in bundles[1:]:
        # A target may have networks of its own: pruned to its channels, or to its latency.
        own = [row for row in one.networks if row not in networks]
        networks += [{**row, "name": f"{row['name']} for {one.profile.name}"} for row in own]
    told = {name: first.notes[name] for name in NOTES if name in first.notes}
    matrix = agreement_matrix(proofs, TASKS[first.test_set.task])
    notes = {**told, "lineage": list(lineage.values()), "agreement_matrix": matrix}
    return compose(first.recipe, first.test_set, networks, [proof.table for proof in proofs], **notes)
