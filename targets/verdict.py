"""verdict: each budget with its value, its interval and its outcome; and which artifact ships.

A budget passes when the whole interval keeps to it, fails when the whole interval breaks it, and is
INCONCLUSIVE in between: more images or more time would tell.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from targets.budgets.limits import Budgets
from targets.budgets.line import UNITS, Line, Outcome, at_most, per_cent_more
from targets.errors import FAILED, PASSED, UNDECIDED
from targets.measuring.candidate import Measured, Measurement
from targets.stats.intervals import SURE, Estimate, judged_quantile, milliseconds, quantile_ratio, ratio
from targets.stats.paired import paired_drop
from targets.tasks.classification import Exam, accuracy_lines, flips, numberless

MB = 1_000_000
WORTH = 0.97  # of plain float's latency: who is not surely below 1 and surely above this need not be timed on
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


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


def cost_lines(budgets: Budgets, found: Measured) -> list[Line]:
    lines = []
    if budgets.size_mb is not None:
        size = found.size_bytes / MB
        lines.append(at_most("size_mb", budgets.size_mb, "MB", Estimate(size, size, size)))
    if budgets.memory_mb is not None:
        if found.memory_bytes is None:
            lines.append(
                Line("memory_mb", budgets.memory_mb, "MB", Outcome.NOT_MEASURED, note="not readable there")
            )
        else:
            peak = found.memory_bytes / MB
            lines.append(at_most("memory_mb", budgets.memory_mb, "MB", Estimate(peak, peak, peak)))
    return lines


def latency_lines(budgets: Budgets, found: Measured, beside: Mapping[str, Measured]) -> list[Line]:
    """In ms, in times the reference, against the baseline; by intervals that hold at every look at once."""
    lines = []
    for name, q in QUANTILES.items():
        limit = getattr(budgets, f"{name}_ms")
        if limit is not None and found.no_tails and q > 0.5:
            lines.append(Line(f"{name}_ms", limit, "ms", Outcome.NOT_MEASURED, note=found.no_tails))
        elif limit is not None:
            lines.append(
                at_most(f"{name}_ms", limit, "ms", milliseconds(judged_quantile(found.blocks, q, SURE)))
            )
    for name in ("p50", "p99"):
        limit = getattr(budgets, f"{name}_vs_reference")
        if limit is not None:
            lines.append(beside_another(f"{name}_vs_reference", limit, found, beside.get("reference")))
    if budgets.slower_than_baseline is not None:
        limit = budgets.slower_than_baseline
        lines.append(beside_another("slower_than_baseline", limit, found, beside.get("baseline")))
    return lines


def beside_another(budget: str, limit: float, found: Measured, other: Measured | None) -> Line:
    """A latency against another's that was timed in the same rounds."""
    unit, whose = UNITS[budget], "baseline" if budget == "slower_than_baseline" else "reference network"
    if other is None:
        return Line(budget, limit, unit, Outcome.NOT_MEASURED, note=f"no {whose} was timed beside it")
    tail = budget.startswith("p99")
    if tail and found.no_tails:
        return Line(budget, limit, unit, Outcome.NOT_MEASURED, note=found.no_tails)
    both = (found.blocks, other.blocks)
    times = quantile_ratio(*both, QUANTILES["p99"], SURE) if tail else ratio(*both, SURE)
    if unit == "%":
        times = per_cent_more(times)
    return at_most(budget, limit, unit, times, f"{len(found.blocks)} processes")


def judge(measurement: Measurement, budgets: Budgets, exam: Exam) -> Verdict:
    """The fastest candidate that meets the accuracy budgets ships; it must surely be faster than plain float."""
    found = measurement.candidates
    twins = {"float": found.get("float"), "baseline": measurement.beside.get("baseline")}
    answered = {name: one.logits for name, one in twins.items() if one is not None}
    exam = replace(exam, references={**exam.references, **answered})
    lines = {name: accuracy_lines(budgets, one.logits, exam, one.here) for name, one in found.items()}
    for name, one in found.items():
        lines[name] += numberless(one.logits)
    good = [name for name, mine in lines.items() if all(line.outcome is Outcome.PASS for line in mine)]
    good = without_twins(good, found, exam)
    undecided = False
    if measurement.untimed:
        ship, reason = smallest(good, found)
        reason += f"; its latency is not known: {measurement.untimed}"
        speed, latency = None, latencies_of(unmeasured(budgets, measurement.untimed))
    else:
        ship, reason, speed = choose(good, found)
        undecided = choice_is_open(good, found)
        latency = latency_lines(budgets, found[ship], measurement.beside)
    judged = lines[ship] + latency + cost_lines(budgets, found[ship])
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


def without_twins(good: list[str], found: Mapping[str, Measured], exam: Exam) -> list[str]:
    """Of a network's calibrated and its trained int8, which are equally fast, one may ship.

    That is the trained one, unless its answers are surely worse than the calibrated one's (exact paired test).
    """
    dropped = set()
    for one in good:
        for other in good:
            mine, theirs = found[one], found[other]
            if mine.network == theirs.network and (mine.method, theirs.method) == ("qat", "ptq"):
                lost, won = flips(mine.logits, theirs.logits, exam)
                worse = paired_drop(lost, won, len(exam.labels)).low > 0
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


def latencies_of(verdict: Verdict) -> list[Line]:
    return [line for line in verdict.lines if line.budget.startswith(("p50", "p90", "p99", "slower"))]


def sure(verdict: Verdict) -> bool:
    """Whether more timing would settle nothing: no latency is in the open, nor which candidate ships."""
    return not verdict.undecided and not any(
        line.outcome is Outcome.INCONCLUSIVE for line in latencies_of(verdict)
    )


def unmeasured(budgets: Budgets, reason: str) -> Verdict:
    """Every budget NOT MEASURED, with the reason: a skip is a value, and cannot pass."""
    given = budgets.model_dump(exclude_none=True).items()
    lines = [Line(name, limit, UNITS[name], Outcome.NOT_MEASURED, note=reason) for name, limit in given]
    return Verdict(None, reason, lines, None)


def plain_float(names: Collection[str]) -> str | None:
    """What one has without the work: the runtime's own float where it has one, else float32."""
    return next((name for name in ("native", "float") if name in names), None)


def choice_is_open(good: list[str], found: Mapping[str, Measured]) -> bool:
    """Whether a candidate may yet prove to be faster than plain float, by more than is worth the change."""
    base = plain_float(good)
    if base is None:
        return False
    speeds = [ratio(found[name].blocks, found[base].blocks, SURE) for name in good if name != base]
    surely_faster = any(speed.high < 1 for speed in speeds)
    return not surely_faster and any(speed.low < WORTH for speed in speeds)


def choose(good: list[str], found: Mapping[str, Measured]) -> tuple[str, str, Estimate | None]:
    """What ships of the candidates that meet the accuracy budgets, why, and its latency against plain float."""
    base = plain_float(good) or plain_float(found)
    others = [name for name in found if name != base]
    if base is None or not others:
        return next(iter(found)), "the only candidate", None
    speeds = {name: ratio(found[name].blocks, found[base].blocks, SURE) for name in others}
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
