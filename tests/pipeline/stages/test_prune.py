"""The room that cuts: towards its goal, once, trained again, and told as it was."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="cuts are of torch's networks")

from torch import nn

from pipeline.artifacts import checkpoint
from pipeline.artifacts.checkpoint import Checkpoint
from pipeline.data.decoded import Decoded
from pipeline.engine.job import Job
from pipeline.models.catalogue import macs
from pipeline.models.tapped_model import Model
from pipeline.recipe.schema import Prune
from pipeline.search import latency_probe
from pipeline.stages import prune
from pipeline.training import loop
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal, Unmeasurable
from targets.spec.profile import Profile

WIDTHS = (8, 8, 16, 24)
FACTORY = """
from pipeline.models.cifar import CifarResNet
def narrow(classes, widths): return CifarResNet(8, tuple(widths), classes)
"""
Make = Callable[..., Job]


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A decoded set, a teacher and a student, as the rooms before leave them."""
    root = tmp_path_factory.mktemp("store")
    tiny.write_set(root / "data", classes=tiny.CLASSES)
    (root / "mine.py").write_text(FACTORY)
    for name, widths, seed in (("teacher", tiny.WIDE, 1), ("student", WIDTHS, 2)):
        (root / name).mkdir()
        arguments, files = {"widths": list(widths)}, {"code/mine.py": root / "mine.py"}
        facts = (tiny.CLASSES, tiny.SHAPE, tiny.MEAN, tiny.STD, ("layer1", "layer2", "layer3"))
        described = Checkpoint("mine:narrow", arguments, *facts, files=files)
        checkpoint.save(root / name, described, tiny.model(widths, seed))
    return {name: root / name for name in ("data", "teacher", "student")}


@pytest.fixture
def job(parents: dict[str, Path], tmp_path: Path) -> Make:
    """A job as the stage makes it, with a scratch of its own unless ``place`` is one from before."""
    numbers = itertools.count()

    def make(multiple: int = 4, place: str = "", target: dict[str, Any] | None = None, **recipe: Any) -> Job:
        plain = {"epochs": 1, "batch": 9, "precision": "float32", "warmup": 0.0}
        settings = Prune.model_validate({**plain, **recipe}).model_dump(mode="json")
        root = tmp_path / (place or f"job{next(numbers)}")
        for folder in ("out", "scratch"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        told = {"prune": settings, "multiple": multiple, "target": target}
        return Job(told, parents, {}, root / "out", root / "scratch")

    return make


def notes(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.out / "history.json").read_text())
    return found


def loaded(folder: Path) -> Model:
    model = checkpoint.load(folder)
    assert isinstance(model, Model)
    return model


def share(job: Job) -> float:
    """The multiply-adds of what came out, in shares of the student's."""
    image = torch.zeros(1, 3, tiny.SIDE, tiny.SIDE)
    return macs(loaded(job.out).network, image) / macs(loaded(job.parents["student"]).network, image)


@pytest.mark.parametrize("criterion", ["magnitude", "bn_scale", "taylor"])
def test_a_goal_of_multiply_adds_is_reached_and_told(criterion: str, job: Make) -> None:
    one = job(criterion=criterion, macs=0.6)
    prune.run(one)
    assert sorted(path.name for path in one.out.iterdir()) == [
        "checkpoint.json",
        "code",
        "history.json",
        "model.safetensors",
    ]
    told = notes(one)
    assert told["cut"]["share"] == 0.6 and told["cut"]["met"] is True
    assert told["cut"]["reached"] == share(one) <= 0.6
    assert set(told["validation"]) == {"before", "cut", "trained"}
    data = tiny.decoded.read(one.parents["data"])
    assert told["validation"]["before"] == loop.validation_score(loaded(one.parents["student"]), data)
    assert told["validation"]["trained"] == loop.validation_score(loaded(one.out), data)
    assert told["validation"]["trained"] == max(told["training"]["start"], *told["training"]["validation"])
    assert len(told["training"]["loss"]) == 1
    (edit,) = checkpoint.read(one.out).edits
    assert edit["edit"] == "cut" and edit["shapes"]
    with torch.no_grad():
        assert loaded(one.out)(tiny.pictures(2))[0].shape == (2, tiny.CLASSES)


def test_what_was_cut_is_trained_again(job: Make) -> None:
    still, moved = job(macs=0.6, epochs=0), job(macs=0.6)
    prune.run(still)
    prune.run(moved)
    assert notes(still)["validation"]["cut"] == notes(still)["validation"]["trained"]
    assert notes(still)["validation"]["cut"] == notes(moved)["validation"]["cut"]
    left, right = (tiny.state(loaded(one.out)) for one in (still, moved))
    assert {name: t.shape for name, t in left.items()} == {name: t.shape for name, t in right.items()}
    assert "network.fc.weight" in tiny.same(left, right)


def test_a_cut_network_is_a_student_like_any_other(job: Make) -> None:
    first = job(macs=0.8)
    prune.run(first)
    again = job(macs=0.7)
    again.parents["student"] = first.out
    second = Job(again.settings, {**again.parents}, {}, again.out, again.scratch)
    again.parents["student"] = first.parents["student"]
    prune.run(second)
    assert [edit["edit"] for edit in checkpoint.read(second.out).edits] == ["cut", "cut"]
    assert share(second) <= 0.7


def test_taylor_uses_the_gradients_that_it_is_left(
    job: Make, parents: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.decoded.read(parents["data"])
    student = loaded(parents["student"])
    network = student.network
    prune.gradients_of(data, student)(network)
    first = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    assert len(first) == len(list(network.parameters())) and all(bool(g.any()) for g in first)
    prune.gradients_of(data, student)(network)
    assert all(
        torch.equal(a, p.grad) for a, p in zip(first, network.parameters(), strict=True) if p.grad is not None
    )
    asked: list[nn.Module] = []
    real = prune.gradients_of

    def watched(data: Decoded, student: Model) -> Callable[[nn.Module], None]:
        leave = real(data, student)
        return lambda network: (asked.append(network), leave(network))[1]  # type: ignore[func-returns-value]

    monkeypatch.setattr(prune, "gradients_of", watched)
    cut = {}
    for criterion in ("taylor", "magnitude"):
        one = job(criterion=criterion, macs=0.6, epochs=0, multiple=1)
        prune.run(one)
        cut[criterion] = tiny.state(loaded(one.out))
        assert bool(asked) == (criterion == "taylor")
        asked.clear()
    left, right = cut.values()
    assert any(
        left[name].shape != right[name].shape or not torch.equal(left[name], right[name]) for name in left
    )


def test_a_goal_out_of_reach_is_told_as_not_met(job: Make) -> None:
    one = job(macs=0.05, multiple=8, epochs=0)
    prune.run(one)
    told = notes(one)
    assert told["cut"]["met"] is False and told["cut"]["goal"] == "macs"
    assert told["cut"]["reached"] == share(one) > 0.05


def test_where_nothing_can_be_removed_it_is_refused(job: Make) -> None:
    with pytest.raises(Refusal, match=r"multiples of 64 channels; drop \[prune\], try another") as caught:
        prune.run(one := job(macs=0.5, multiple=64))
    assert "\n" not in str(caught.value)
    assert list(one.out.iterdir()) == [] and not (one.scratch / "cut.json").exists()


def die_in(epoch: int) -> Callable[..., None]:
    real = loop.Run.epoch

    def dying(self: loop.Run, number: int, title: str) -> None:
        if number == epoch:
            raise tiny.Killed
        real(self, number, title)

    return dying


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("criterion", ["magnitude", "taylor"])
def test_an_interrupted_run_ends_as_if_left_alone(
    criterion: str, epoch: int, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With a loss that learns beside the student: its first tensors must be the same too.
    asked = {"criterion": criterion, "macs": 0.6, "epochs": 2, "loss": [{"name": "fitnet"}]}
    whole = job(place="whole", **asked)
    prune.run(whole)
    broken = job(place="broken", **asked)
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        patch.setattr(loop.Run, "epoch", die_in(epoch))
        prune.run(broken)
    assert list(broken.out.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(prune, "cut", lambda *_: pytest.fail("it cuts twice"))
        prune.run(broken)
    assert tiny.same(*(tiny.state(loaded(one.out)) for one in (whole, broken))) == []
    assert notes(whole) == notes(broken)
    assert checkpoint.read(whole.out) == checkpoint.read(broken.out)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the probes answer what is given, the last for ever."""

    def put(*shares: float) -> None:
        answers: Iterator[float] = itertools.chain(shares, itertools.repeat(shares[-1]))
        monkeypatch.setattr(prune.Probe, "__init__", lambda self, student, data, job: None)
        monkeypatch.setattr(prune.Probe, "latency", lambda self, student: next(answers))

    return put


def test_probes_lead_to_a_latency(job: Make, fake: Callable[..., None]) -> None:
    fake(0.9, 0.8, 0.69)
    one = job(latency=0.7, epochs=0, multiple=1)
    prune.run(one)
    told = notes(one)["cut"]
    assert (told["goal"], told["share"], told["met"]) == ("latency", 0.7, True)
    assert [probe["latency"] for probe in told["probes"]] == [0.9, 0.8, 0.69]
    cuts = [probe["macs"] for probe in told["probes"]]
    assert cuts == sorted(cuts, reverse=True) and cuts[0] <= 0.7
    assert cuts[1] <= cuts[0] * 0.7 / 0.9 and cuts[2] <= cuts[1] * 0.7 / 0.8
    assert cuts[-1] == share(one)


@pytest.mark.parametrize("multiple", [1, 8])
def test_a_latency_out_of_reach_is_told_of_the_network_that_is_kept(
    multiple: int, job: Make, fake: Callable[..., None]
) -> None:
    fake(0.99)
    one = job(latency=0.5, epochs=0, multiple=multiple)
    prune.run(one)
    told = notes(one)["cut"]
    assert told["met"] is False and 1 <= len(told["probes"]) <= prune.PROBES
    assert told["probes"][-1]["macs"] == share(one), "what was timed last is not what is kept"


def test_a_latency_is_measured_on_the_target(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_probe, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(latency_probe, "PROBE_PROCESSES", 2)
    monkeypatch.setattr(prune, "PROBES", 1)
    profile = Profile(name="here", about="a test", backend="onnxruntime", rewrite="u8", channel_multiple=4)
    one = job(latency=0.9, target={"profile": profile.model_dump(mode="json"), "device": "local"})
    prune.run(one)
    told = notes(one)["cut"]
    (probe,) = told["probes"]
    assert probe["macs"] == share(one) <= 0.9 and probe["latency"] > 0
    assert told["reached"] == probe["latency"] and told["met"] is (probe["latency"] <= 0.9)
    assert {path.name for path in one.scratch.glob("*.onnx")} == {"uncut.onnx", "cut.onnx"}


def test_a_latency_of_a_device_that_is_not_here_is_not_measured_on_this_machine(job: Make) -> None:
    profile = Profile(name="board", about="a test", backend="onnxruntime", remote=True)
    one = job(latency=0.9, target={"profile": profile.model_dump(mode="json"), "device": "local"})
    with pytest.raises(
        Unmeasurable, match=r"prune\.latency: a latency on board is asked for; give that device"
    ):
        prune.run(one)
