"""verdict: each budget with its value, its interval and its outcome; and which artifact ships.

A budget passes when the whole interval keeps to it, fails when the whole interval breaks it, and is
INCONCLUSIVE in between: more images or more time would tell.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from targets.budgets.evidence import Evidence, Measured, TestSet
from targets.budgets.line import Line, Outcome
from targets.errors import FAILED, PASSED, UNDECIDED
from targets.limits import BUDGETS, Budgets
from targets.measuring.candidate import Measurement
from targets.stats.intervals import LOOK_LEVEL, Estimate, ratio
from targets.tasks import TASKS
from targets.tasks.answers import not_finite_line
from targets.tasks.task import estimate_drop

# Of plain float's latency: one that is surely above it is not timed on to learn whether it is a little faster.
WORTHWHILE = 0.97


@dataclass(frozen=True)
class Verdict:
    """What ships, why, and the lines that speak for or against it; nothing ships that was not measured."""

    ship: str | None
    reason: str
    lines: list[Line]
    speed: Estimate | None  # the shipped artifact's latency in times the float twin's
    untimed: bool = False  # nothing was timed, so nothing is proved of its latency
    accept: bool = False  # whether what was not measured may pass
    undecided: bool = False  # whether more timing could change which candidate ships
    rejected: Mapping[str, list[Line]] = field(
        default_factory=dict
    )  # what speaks against each other candidate

    @property
    def status(self) -> int:
        outcomes = {line.outcome for line in self.lines}
        if Outcome.FAIL in outcomes:
            return FAILED
        enough = {Outcome.PASS, Outcome.NOT_MEASURED} if self.accept else {Outcome.PASS}
        proved = self.ship is not None and outcomes <= enough and (self.accept or not self.untimed)
        return PASSED if proved else UNDECIDED


def judge(measurement: Measurement, budgets: Budgets, test_set: TestSet) -> Verdict:
    """The fastest candidate that meets the accuracy budgets ships; it must surely be faster than plain float."""
    found = measurement.candidates
    twins = {"float": found.get("float"), "baseline": measurement.comparisons.get("baseline")}
    answers = test_set.references | {name: one.logits for name, one in twins.items() if one is not None}
    evidence = {
        name: Evidence(one, test_set, measurement.comparisons, answers) for name, one in found.items()
    }
    lines = {name: answer_lines(budgets, seen) for name, seen in evidence.items()}
    good = [name for name, mine in lines.items() if all(line.outcome is Outcome.PASS for line in mine)]
    good = without_twins(good, found, test_set)
    undecided = False
    if measurement.untimed:
        ship, reason = smallest(good, found)
        reason += f"; its latency is not known: {measurement.untimed}"
        speed = None
        latency = [row.unmeasured(limit, measurement.untimed) for row, limit in budgets.rows("latency")]
    else:
        ship, reason, speed = choose_candidate(good, found)
        undecided = choice_is_open(good, found)
        latency = [row.judge(evidence[ship], limit) for row, limit in budgets.rows("latency")]
    costs = [row.judge(evidence[ship], limit) for row, limit in budgets.rows("cost")]
    judged = lines[ship] + latency + costs
    if measurement.simulated:
        told = [
            replace(line, outcome=Outcome.SIMULATED, note="a stand-in for the runtime answered")
            for line in judged
        ]
        return Verdict(
            None, "a stand-in for the runtime answered: this proves the way, not the artifact", told, None
        )
    against = {name: [one for one in mine if one.outcome is not Outcome.PASS] for name, mine in lines.items()}
    rejected = {name: mine for name, mine in against.items() if mine and name != ship}
    untimed = bool(measurement.untimed)
    return Verdict(ship, reason, judged, speed, untimed, undecided=undecided, rejected=rejected)


def answer_lines(budgets: Budgets, evidence: Evidence) -> list[Line]:
    """What decides whether a candidate may ship at all."""
    judged = [row.judge(evidence, limit) for row, limit in budgets.rows("answers")]
    return [*judged, *findings(evidence.candidate)]


def findings(candidate: Measured) -> list[Line]:
    """Failed lines for answers that prove nothing, whatever the budgets are."""
    broken = not_finite_line(candidate.logits)
    found = [] if broken is None else [broken]
    if candidate.unsteady:
        note = f"{candidate.unsteady} images are answered otherwise when asked again in another process"
        meaning = "two processes answer alike"
        found.append(Line("repeatable", 0.0, "images", Outcome.FAIL, note=note, meaning=meaning))
    return found


def without_twins(good: list[str], found: Mapping[str, Measured], test_set: TestSet) -> list[str]:
    """Of a network's calibrated and its trained int8, which are equally fast, one may ship.

    That is the trained one, unless its answers are surely worse than the calibrated one's (paired test).
    """
    dropped, task = set(), TASKS[test_set.task]
    for one in good:
        for other in good:
            mine, theirs = found[one], found[other]
            if mine.network == theirs.network and (mine.method, theirs.method) == ("qat", "ptq"):
                records = [task.records(one.logits, test_set.labels) for one in (mine, theirs)]
                worse = estimate_drop(task, *records).low > 0
                dropped.add(one if worse else other)
    return [name for name in good if name not in dropped]


def smallest(good: list[str], found: Mapping[str, Measured]) -> tuple[str, str]:
    """What ships where nothing can be timed: the smallest file that meets the accuracy budgets."""
    ship = min(good or found, key=lambda name: found[name].size_bytes)
    told = (
        "meets the accuracy budgets and is the smallest"
        if good
        else "is not proved to meet the accuracy budgets"
    )
    return ship, f"{ship} {told}"


def needs_clock(line: Line) -> bool:
    """Whether more timing could change it; a line that no budget of the table gave is computed once."""
    row = BUDGETS.get(line.budget)
    return row is not None and row.kind == "latency"


def settled(verdict: Verdict) -> bool:
    """Whether more timing would settle nothing: no latency is in the open, nor which candidate ships."""
    return not verdict.undecided and not any(
        line.outcome is Outcome.INCONCLUSIVE for line in verdict.lines if needs_clock(line)
    )


def unmeasured(budgets: Budgets, reason: str) -> Verdict:
    """Every budget NOT MEASURED, with the reason: a skip is a value, and cannot pass."""
    lines = [row.unmeasured(limit, reason) for row, limit in budgets.rows()]
    return Verdict(None, reason, lines, None)


def plain_float(names: Collection[str]) -> str | None:
    """What one has without the work: the runtime's own float where it has one, else float32."""
    return next((name for name in ("native", "float") if name in names), None)


def choice_is_open(good: list[str], found: Mapping[str, Measured]) -> bool:
    """Whether a candidate may yet prove to be faster than plain float, by more than is worth the change."""
    base = plain_float(good)
    if base is None:
        return False
    speeds = [ratio(found[name].blocks, found[base].blocks, LOOK_LEVEL) for name in good if name != base]
    surely_faster = any(speed.high < 1 for speed in speeds)
    return not surely_faster and any(speed.low < WORTHWHILE for speed in speeds)


def choose_candidate(good: list[str], found: Mapping[str, Measured]) -> tuple[str, str, Estimate | None]:
    """What ships of the candidates that meet the accuracy budgets, why, and its latency against plain float."""
    base = plain_float(good) or plain_float(found)
    others = [name for name in found if name != base]
    if base is None or not others:
        return next(iter(found)), "the only candidate", None
    speeds = {name: ratio(found[name].blocks, found[base].blocks, LOOK_LEVEL) for name in others}
    if not good:
        quickest = min(speeds, key=lambda name: speeds[name].value)
        return quickest, "no candidate is proved to meet the accuracy budgets", speeds[quickest]
    faster = [name for name in others if name in good and speeds[name].high < 1]
    if faster or base not in good:
        best = min(faster or good, key=lambda name: speeds[name].value)
        how = f"{1 / speeds[best].value:.2f}x as fast as {base}"
        return best, f"{best} meets the accuracy budgets and is {how}", speeds[best]
    rival = min(
        (name for name in others if found[name].precision == "int8"),
        key=lambda name: speeds[name].value,
        default=others[0],
    )
    why = (
        f"is not surely faster than {base} here"
        if rival in good
        else "is not proved to meet the accuracy budgets"
    )
    return base, f"{rival} {why} ({speeds[rival].value:.2f}x its latency), so {base} ships", None
