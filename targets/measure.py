"""measure: candidates on a device: built, asked every image, timed in turns. Never from a cache."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from targets.contract import Contract
from targets.derive import derived
from targets.devices import Device, Local, open_device
from targets.heat import heat
from targets.packing import OPERATORS, on_arm, packed
from targets.profile import Profile
from targets.progress import Bar
from targets.refusal import Unmeasurable
from targets.runner.backends import Backend, Precision
from targets.saturation import saturation
from targets.statistics import ERROR, LOOKS, until_sure

Blocks = list[list[list[float]]]  # processes, blocks, seconds
Method = Literal["", "ptq", "qat"]  # how an int8 network came to its grid: calibrated, or trained on it
EMULATED = "the processor is emulated, and an emulated time is no latency"
STAND_IN = "this machine answered in the device's place, and its times say nothing of the device's"


@dataclass(frozen=True)
class Candidate:
    """A file that could ship, and how its runtime is to compute it.

    ``float32`` to the letter; ``native`` in the float that the runtime prefers on that device (bf16, fp16);
    ``int8`` files go through the profile's rewrite.
    """

    name: str
    model: Path
    precision: Precision
    network: str = ""  # whose weights these are: a name of the report's networks
    lite: Path | None = None  # the same tensors as a .tflite, for LiteRT, which takes no ONNX file
    method: Method = ""


@dataclass(frozen=True)
class Measured:
    """What one candidate showed on the device."""

    artifact: Path
    size_bytes: int
    memory_bytes: int | None
    logits: NDArray[np.float32]  # (N, classes)
    blocks: Blocks
    facts: dict[str, Any]  # of the build: operators that run, and how
    network: str = ""
    precision: Precision = "float32"
    method: Method = ""
    no_tails: str = ""  # why only medians are known of its times, where that is so
    here: NDArray[np.float32] | None = None  # what ONNX Runtime answers on this machine with the same weights


@dataclass(frozen=True)
class Measurement:
    """All candidates of one target, and where and how they were measured."""

    target: str
    device: str
    candidates: Mapping[str, Measured]
    environment: dict[str, Any]
    protocol: dict[str, Any]
    simulated: bool = False  # a stand-in for the runtime answered, as in tests
    # Timed in the same rounds, to compare with; they never ship: "baseline", "reference".
    beside: Mapping[str, Measured] = field(default_factory=dict)
    untimed: str = ""  # why there are no times, where there are none
    # Of the work without a pause before, if there was any.
    heat: Mapping[str, Any] = field(default_factory=dict)


class Bench:
    """A device with a profile's settings and images on it; what can be done with a candidate there."""

    def __init__(
        self, device: Device, profile: Profile, contract: Contract, images: Path, work: Path
    ) -> None:
        self.device, self.profile, self.images, self.work = device, profile, images, work
        self.shapes = contract.shape(profile.batch)
        self.base: dict[str, Any] = {
            "backend": profile.backend,
            "format": profile.format,
            "tool": str(profile.tool) if profile.tool else None,
            "images": "images.npy",
            "feed": contract.feed(),
        }
        device.put(images, "images.npy")
        self.environment = self.do("look")["after"]
        stands_in = profile.remote and type(device) is Local
        # Why nothing may be timed here, if so.
        self.untimed = EMULATED if self.environment.get("emulated") else STAND_IN if stands_in else ""

    def do(self, what: str, **more: Any) -> dict[str, Any]:
        return self.device.run({**self.base, "do": what, **more})

    def options(self, one: Candidate) -> dict[str, Any]:
        known: dict[str, Any] = {
            "threads": self.profile.threads,
            "batch": self.profile.batch,
            "precision": one.precision,
        }
        if self.profile.backend == "tensorrt":
            known |= {"tensorrt": self.profile.tensorrt, "cache": self.profile.engine_cache}
        return known

    def artifact(self, one: Candidate) -> Path:
        """The candidate's file in the form that this target runs."""
        return self.work / f"{one.name}.{self.profile.format}"

    def reference(self, one: Candidate) -> Path:
        """The ONNX file that it was made of: for most targets the artifact itself."""
        return self.work / f"{one.name}.onnx"

    def build(self, one: Candidate) -> dict[str, Any]:
        """Derive the file, send it, build its engine there; facts about what will run."""
        features = self.environment["cpu"]["features"]
        model, form = derived(onnx.load(one.model), one.precision, self.profile, features)
        onnx.save(model, self.reference(one))
        known: dict[str, Any] = {"saturation": saturation(model, form)} if one.precision == "int8" else {}
        known |= packed(one, self.reference(one), self.artifact(one))
        if self.profile.backend == "onnxruntime" and (self.profile.format == "ort" or "asimd" in features):
            known |= on_arm(self.reference(one))
        self.device.put(self.artifact(one), self.artifact(one).name)
        job = {"model": self.artifact(one).name, "engine": f"{one.name}.engine", "options": self.options(one)}
        facts: dict[str, Any] = self.do("build", **job)["facts"]
        return {**known, **facts, "rewrite": form, "precision": one.precision}

    def ask(self, one: Candidate) -> tuple[NDArray[np.float32], int | None]:
        """Its logits for every image, and the peak of memory (bytes) of the process that gave them."""
        answers = f"{one.name}.npy"
        job = {"engine": f"{one.name}.engine", "answers": answers, "options": self.options(one)}
        memory = self.do("answer", **job)["memory_bytes"]
        self.device.get(answers, self.work / answers)
        return np.load(self.work / answers), memory

    def time(self, candidates: Sequence[Candidate], seconds: float, seed: int) -> dict[str, Any]:
        """Blocks of calls of each, in turns, in one fresh process: ``{"blocks": {name: …}, …}``."""
        self.check_clock()
        return self.do("time", engines=self.engines(candidates), seconds=seconds, seed=seed)

    def sustain(self, candidates: Sequence[Candidate], seconds: float) -> list[dict[str, Any]]:
        """Work without a pause, for what heat does: each window's medians and the machine's state."""
        self.check_clock()
        windows: list[dict[str, Any]] = self.do(
            "sustain", engines=self.engines(candidates), seconds=seconds, seed=0
        )["windows"]
        return windows

    def check_clock(self) -> None:
        if self.untimed:
            raise Unmeasurable(f"{self.profile.name}: {self.untimed}")

    def engines(self, candidates: Sequence[Candidate]) -> dict[str, Any]:
        return {
            one.name: {"engine": f"{one.name}.engine", "options": self.options(one)} for one in candidates
        }

    def vendor(self, one: Candidate) -> dict[str, Any]:
        """The figures of the vendor's own tool for the same engine, where there is one; to look at, not to judge."""
        if Backend(self.profile.backend).vendor is None:
            return {}
        return {"vendor": self.do("vendor", engine=f"{one.name}.engine", shapes=self.shapes)["vendor"]}


def measure(
    candidates: Sequence[Candidate],
    contract: Contract,
    profile: Profile,
    device_name: str,
    images: Path,
    out: Path,
    beside: Sequence[Candidate] = (),
    enough: Callable[[Measurement], bool] = lambda found: True,
) -> Measurement:
    """Build, ask and time; the files as they ran there are left in ``out``. Raises Unmeasurable.

    Timed in fresh processes, because a session is a sample too: as many as the first look wants, and on to the
    next look while ``enough`` says no and the profile's seconds last.
    """
    everything = [*candidates, *beside]
    bar = Bar(profile.name, 2 * len(everything) + LOOKS[0])
    with tempfile.TemporaryDirectory(prefix="retort-") as work, open_device(device_name) as device, bar:
        bench = Bench(device, profile, contract, images, Path(work))
        seen = untimed(bench, everything, out, bar)
        elsewhere = device_name != "local" or (profile.backend, profile.format) != ("onnxruntime", "onnx")
        for one in candidates:
            here = answers_here(bench, one) if elsewhere else seen[one.name].logits
            seen[one.name] = replace(seen[one.name], here=here)
        names = [one.name for one in beside]
        if bench.untimed:
            found = collected(seen, [], names, profile, device_name)
            return replace(found, untimed=bench.untimed, environment=bench.environment)
        heated = heat(bench.sustain(everything, profile.sustained)) if profile.sustained else {}

        def take(number: int) -> dict[str, Any]:
            done = bench.time(everything, profile.seconds / LOOKS[-1], number)
            bar.expect(2 * len(everything) + next(look for look in LOOKS if look > number))
            bar.step(f"timed {number + 1}")
            return done

        def so_far(timed: Sequence[dict[str, Any]]) -> Measurement:
            found = collected(seen, timed, names, profile, device_name)
            return replace(found, heat=heated)

        timed = until_sure(take, lambda taken: enough(so_far(taken)))
        for one in candidates:
            seen[one.name].facts.update(bench.vendor(one))
    return so_far(timed)


def answers_here(bench: Bench, one: Candidate) -> NDArray[np.float32]:
    """What ONNX Runtime on this machine's processor makes of the very tensors that the device runs."""
    job = {**bench.base, "backend": "onnxruntime", "options": bench.options(one)}
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        device = Local(Path(folder))
        device.put(bench.images, "images.npy")
        device.put(bench.reference(one), f"{one.name}.onnx")
        device.run({**job, "do": "answer", "engine": f"{one.name}.onnx", "answers": "answers.npy"})
        device.get("answers.npy", bench.work / f"{one.name}.here.npy")
    answers: NDArray[np.float32] = np.load(bench.work / f"{one.name}.here.npy")
    return answers


def untimed(bench: Bench, everything: Sequence[Candidate], out: Path, bar: Bar) -> dict[str, Measured]:
    """All that a candidate shows but its times: each is built, and asked every image."""
    facts = {}
    for one in everything:
        facts[one.name] = bench.build(one)
        bar.step(f"built {one.name}")
    seen = {}
    for one in everything:
        logits, memory = bench.ask(one)
        file = keep(bench.artifact(one), out)
        if OPERATORS in facts[one.name]:
            (out / f"{one.name}.{OPERATORS}.config").write_text(facts[one.name][OPERATORS])
        bar.step(f"asked {one.name}")
        whose = (one.network, one.precision, one.method)
        seen[one.name] = Measured(file, file.stat().st_size, memory, logits, [], facts[one.name], *whose)
    return seen


def collected(
    seen: Mapping[str, Measured],
    timed: Sequence[dict[str, Any]],
    beside: Sequence[str],
    profile: Profile,
    device: str,
) -> Measurement:
    """What is known after some processes."""
    no_tails = timed[0]["timer"].get("no_tails", "") if timed else ""
    found = {
        name: replace(one, blocks=[process["blocks"][name] for process in timed], no_tails=no_tails)
        for name, one in seen.items()
    }
    settings = {"threads": profile.threads, "batch": profile.batch, "seconds": profile.seconds}
    protocol = {**settings, "processes": len(timed), "looks": list(LOOKS), "error": ERROR}
    environment = {}
    if timed:
        protocol |= {"taken": timed[0]["time"], "timer": timed[0]["timer"]}
        environment = timed[-1]["after"]
    simulated = any(one.facts.get("simulated", False) for one in seen.values())
    others = {name: found.pop(name) for name in beside}
    return Measurement(profile.name, device, found, environment, protocol, simulated, others)


def keep(file: Path, folder: Path) -> Path:
    """Copy a file into a folder so that whoever looks sees it whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as part:
        part.write(file.read_bytes())
    kept = folder / file.name
    Path(part.name).chmod(0o644)
    Path(part.name).replace(kept)
    return kept
