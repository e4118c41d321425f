"""gate: one ONNX file, a folder of images, budgets: yes or no. No torch, no recipe, no store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from targets.baselines.baseline import comparisons
from targets.baselines.lock import Lock, lock_of
from targets.budgets.evidence import TestSet
from targets.decoding import decode_files, tell_unread
from targets.errors import Refusal, Unmeasurable
from targets.limits import Budgets
from targets.measuring.candidate import Candidate, Measurement
from targets.measuring.measure import measure
from targets.onnx_file import load
from targets.report.table import compose, target_table, write_report
from targets.spec.contract import NOTHING, Contract, Said, contract_of
from targets.spec.output import check_batch
from targets.spec.profile import Profile
from targets.stats.intervals import ratio
from targets.tasks import TASKS
from targets.tasks.task import Examples, estimate
from targets.verdict import findings, judge, settled

# Not the file's name: it could be that of one timed beside it.
CANDIDATE = "candidate"


@dataclass(frozen=True)
class Given:
    """A file to judge, and where: what a foreign file does not say of its input is given with it."""

    model: Path
    images: Path  # a folder of class folders
    profile: Profile
    device: str = "local"
    said: Said = NOTHING


@dataclass(frozen=True)
class Asked:
    """The given file's input, and the questions: the decoded images lie in ``work``."""

    contract: Contract
    test_set: TestSet
    images: Path
    work: Path


@contextmanager
def asked(given: Given) -> Iterator[Asked]:
    """The questions for a file. Raises Refusal where file and images do not fit."""
    proto = load(given.model)
    contract = contract_of(proto, str(given.model), given.said)
    check_batch(proto, contract.input, given.profile.batch, str(given.model))
    found = examples(proto, contract, given.images)
    tell_unread(given.images, found.paths)
    with tempfile.TemporaryDirectory(prefix="retort-") as work:
        decoded = Path(work) / "images.npy"
        decode_files(found.paths, contract.decoding, decoded, "images")
        test_set = TestSet(found.truth, found.classes, {}, contract.task)
        yield Asked(replace(contract, classes=found.classes), test_set, decoded, Path(work))


def examples(proto: onnx.ModelProto, contract: Contract, images: Path) -> Examples:
    """The labelled images of a folder. Raises Refusal where they are not what the file answers."""
    (answers,) = (value for value in proto.graph.output if value.name == contract.output)
    width = [dim.dim_value for dim in answers.type.tensor_type.shape.dim][-1:]
    return TASKS[contract.task].examples(images, contract.classes, *width or (0,))


def gate(
    given: Given, budgets: Budgets, out: Path, baseline: Path | None = None, accept: bool = False
) -> dict[str, Any]:
    """The report's table of one given file.

    ``baseline`` is another file with the same input, or a lock that names one: timed in the same rounds;
    ``accept``: what is not measured may pass.
    """
    budgets = budgets.over(given.profile.budgets)
    if not budgets.root:
        raise Refusal(
            "gate: no budget to judge by; give --budget p99_ms=8 or another, or a profile with budgets"
        )
    with asked(given) as ask:
        others = comparisons(budgets, ask.contract, baseline, ask.work)
        enough = lambda so_far: settled(judge(so_far, budgets, ask.test_set))
        found = measured(given, ask, others, out / given.profile.name, enough)
    verdict = replace(judge(found, budgets, ask.test_set), accept=accept)
    table = target_table(given.profile, given.device, verdict, ask.test_set, found)
    report = compose(str(given.model), ask.test_set, [], [table])
    write_report(report, out)
    return report


def measured(
    given: Given,
    ask: Asked,
    others: Sequence[Candidate],
    out: Path,
    enough: Callable[[Measurement], bool],
) -> Measurement:
    """The given file, as it is, in the same rounds as others."""
    one = Candidate(CANDIDATE, given.model, "float32")
    where = given.profile, given.device
    return measure([one], ask.contract, *where, ask.images, out, others, enough)


def lock(given: Given, path: Path) -> Lock:
    """Measure a file beside the reference network and say what to keep of it."""
    begun = lock_of(given.model, path)
    budgets = Budgets({"p50_vs_reference": 1.0})  # so that the reference network is there; nothing is judged
    with asked(given) as ask:
        others = comparisons(budgets, ask.contract, None, ask.work)
        found = measured(given, ask, others, ask.work / "out", lambda so_far: True)
    for broken in findings(found.candidates[CANDIDATE]):
        raise Refusal(f"lock: {given.model}: {broken.note}; it is not accepted")
    if found.untimed:
        raise Unmeasurable(f"lock: {found.untimed}; lock it where it can be timed")
    return begun.model_copy(
        update={"figures": figures(found, ask.test_set), "measured": circumstances(found)}
    )


def figures(found: Measurement, test_set: TestSet) -> dict[str, Any]:
    """What people compare in a diff, with as many digits as mean something."""
    one, reference = found.candidates[CANDIDATE], found.comparisons["reference"]
    task = TASKS[test_set.task]
    score = estimate(task, task.records(one.logits, test_set.labels))
    times = ratio(one.blocks, reference.blocks)
    return {
        f"{task.metric}_percent": [round(100 * x, 2) for x in (score.value, score.low, score.high)],
        "p50_vs_reference": [float(f"{x:.4g}") for x in (times.value, times.low, times.high)],
        "size_bytes": one.size_bytes,
    }


def circumstances(found: Measurement) -> dict[str, Any]:
    return {
        "target": found.target,
        "cpu": found.environment["cpu"]["model"],
        "taken": found.protocol["taken"],
        "test_images": len(next(iter(found.candidates.values())).logits),
    }
