"""quantize: a float ONNX file of anybody's becomes an int8 file for each target, measured and judged. No torch.

Where the images lie in class folders their labels are known; else a label is what the float file answers, so that
every lost answer is one that int8 changed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from targets.baselines.baseline import comparisons
from targets.budgets.evidence import TestSet
from targets.errors import Refusal
from targets.limits import Budgets
from targets.measuring.candidate import Candidate
from targets.measuring.measure import measure
from targets.onnx_file import load
from targets.progress import say, track
from targets.quantize.calibrate import answers, choose_steps, histograms
from targets.quantize.clean import cleaned
from targets.quantize.exchange import exchange
from targets.quantize.images import Part, Parts, split
from targets.quantize.policy import rounded
from targets.quantize.sensitivity import kept_float
from targets.report.table import compose, target_table, write_report
from targets.runner.images import Images
from targets.spec.contract import NOTHING, Contract, Said, contract_of
from targets.spec.output import check_batch
from targets.spec.profile import Profile
from targets.tasks import TASKS
from targets.verdict import judge, settled

DEFAULT = {"drop_vs_float": 1.0}  # where no budget is given
HELD_BACK, MOST = 4, 32  # every fourth calibration image, and no more than 32, chooses between grids
SHARE = 0.5  # of what may be lost on test images: so much may be lost on calibration images


@dataclass(frozen=True)
class Order:
    """A float file, images, the targets, and what a foreign file does not say of its input."""

    model: Path
    images: Path  # a folder of images, or of class folders of images
    profiles: Sequence[Profile]
    device: str = "local"
    calibration: int = 300
    keep_float: Sequence[str] = ()  # patterns of the names of nodes
    said: Said = NOTHING


def quantize(order: Order, budgets: Budgets, out: Path, accept: bool = False) -> dict[str, Any]:
    """The report's table of one file on its targets; each target's int8 file lies in its folder of ``out``."""
    budgets = budgets if budgets.root else Budgets(DEFAULT)
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        work, model = Path(folder), load(order.model)
        contract = contract_of(model, str(order.model), order.said)
        quantizer = Quantizer(model, contract, order)
        parts = split(model, contract, order.images, order.calibration, work)
        candidates = [Candidate("float", order.model, "float32")]
        for name, made in quantizer.files(parts.calibration, budgets).items():
            onnx.save(made, work / f"{name}.onnx")
            candidates.append(Candidate(name, work / f"{name}.onnx", "int8", method="ptq"))
        test_set = questions(model, contract, parts)
        tables = []
        for profile in order.profiles:
            limits = budgets.over(profile.budgets)
            others = comparisons(limits, contract, None, work)
            enough = lambda so_far, limits=limits: settled(judge(so_far, limits, test_set))
            place = contract, profile, order.device, parts.test.file, out / profile.name
            found = measure(candidates, *place, others, enough)
            verdict = replace(judge(found, limits, test_set), accept=accept)
            tables.append(target_table(profile, order.device, verdict, test_set, found))
    report = compose(str(order.model), test_set, [], tables)
    write_report(report, out)
    return report


class Quantizer:
    """One float file on its way to int8."""

    def __init__(self, model: onnx.ModelProto, contract: Contract, order: Order) -> None:
        self.given, self.contract, self.where = model, contract, str(order.model)
        check_batch(model, contract.input, 1, self.where)
        self.model = cleaned(of_size(model, contract), self.where)
        graph = ir.from_proto(self.model).graph
        self.names = [str(value.name) for value in rounded(graph, order.keep_float)]
        self.kept = {str(n.name) for n in graph if any(fnmatch(str(n.name), p) for p in order.keep_float)}
        if not self.names:
            raise Refusal(f"{self.where}: it has no convolution or linear layer that could be int8")
        answers(self.model, [contract.prepare(contract.black(1))], contract)

    def files(self, images: Part, budgets: Budgets) -> dict[str, onnx.ModelProto]:
        """What every target's file is made of: all in int8, and with layers in float where that loses too much."""
        feed = Images(str(images.file), self.contract.feed())
        held = range(0, len(feed), max(HELD_BACK, len(feed) // MOST))
        few_images = [feed.batch(index, 1) for index in held]
        few = lambda model: answers(model, few_images, self.contract, exact=True)
        found = histograms(self.model, self.names, singly(feed, "calibrate", held), self.contract)
        way, steps = choose_steps(self.model, found, few)
        say(f"quantize: {len(self.names)} tensors rounded; cut off by {way}: closest on held-back images")
        made = {"int8": exchange(self.model, steps, self.kept)}
        limit = budgets.root.get("drop_vs_float")
        if limit is not None:
            lost = self.loses(feed, images)
            floats = kept_float(self.model, steps, few, lost, SHARE * limit)
            if floats is None:
                say(
                    f"quantize: with half of its layers in float it loses more than {SHARE * limit:g} points too"
                )
            elif floats:
                say(f"quantize: int8-mixed keeps {len(floats)} layers in float: {', '.join(floats)}")
                made["int8-mixed"] = exchange(self.model, steps, {*self.kept, *floats})
        for one in made.values():
            del one.metadata_props[:]
            one.metadata_props.extend(self.given.metadata_props)
        return made

    def loses(self, feed: Images, images: Part) -> Callable[[onnx.ModelProto], float]:
        """How many points of its score a file loses against float on the calibration images."""
        logits = answers(self.model, singly(feed, "float answers"), self.contract)
        task = TASKS[self.contract.task]
        truth = task.as_truth(logits) if images.labels is None else images.labels
        score = task.score(task.records(logits, truth))

        def lost(model: onnx.ModelProto) -> float:
            found = answers(model, singly(feed, "answers"), self.contract, exact=True)
            return 100 * (score - task.score(task.records(found, truth)))

        return lost


def singly(feed: Images, what: str, but: Sequence[int] = ()) -> Iterator[NDArray[Any]]:
    """Batches of one image, with a progress bar."""
    indices = [index for index in range(len(feed)) if index not in but]
    return (feed.batch(index, 1) for index in track(indices, what))


def of_size(model: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    """A copy whose channels, height and width are what the contract says, where the file leaves them free."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (value,) = (one for one in copy.graph.input if one.name == contract.input)
    for place, side in enumerate(contract.dims(), 1):
        value.type.tensor_type.shape.dim[place].dim_value = side
    del copy.graph.value_info[:]
    return copy


def questions(model: onnx.ModelProto, contract: Contract, parts: Parts) -> TestSet:
    """The test images with their labels, or with what the float file answers."""
    if parts.test.labels is not None:
        return TestSet(parts.test.labels, parts.classes, {}, contract.task)
    feed = Images(str(parts.test.file), contract.feed())
    logits = answers(model, singly(feed, "float answers"), contract)
    names = contract.classes or tuple(str(number) for number in range(logits.shape[1]))
    return TestSet(TASKS[contract.task].as_truth(logits), names, {}, contract.task)
