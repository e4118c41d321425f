"""How noisy this machine is for the gate: the reference network against itself, in fresh processes."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from targets.baselines.reference_network import write_reference
from targets.devices.connect import open_device
from targets.measuring.bench import Bench
from targets.measuring.candidate import Candidate
from targets.progress import Bar
from targets.spec.contract import Contract
from targets.spec.profile import Profile, read_profile
from targets.stats.intervals import LOOK_LEVEL, LOOKS, Blocks, quantiles, ratios, student_half

PROCESSES, SECONDS, SIZE, GIVEN_S = 10, 1.0, 64, 60.0


@dataclass(frozen=True)
class Noise:
    """What two sessions of one file showed; shares of the latency."""

    spread: float  # standard deviation of the two's ratio, a process
    drift: float  # the slowest process's median over the fastest's, less 1
    process_s: float  # what a process takes, start and warm-up included
    load: float
    governor: str | None

    @property
    def provable(self) -> float:
        """The smallest distance from a limit that the gate can tell in a minute."""
        count = max((look for look in LOOKS if look * self.process_s <= GIVEN_S), default=LOOKS[0])
        return math.expm1(student_half(self.spread, count, LOOK_LEVEL))

    def advice(self) -> list[str]:
        """What would make it quieter."""
        told = []
        if self.load > 0.5:
            told.append(
                f"others work here (load average {self.load:.1f}): stop them, or measure when they rest"
            )
        if self.governor not in (None, "performance"):
            told.append(f"the governor is {self.governor}: set it to performance")
        if self.provable > 0.05:
            told.append(
                "pin the process to cores that nobody else has (taskset), or give the gate more seconds"
            )
        return told or ["nothing to change"]


@contextmanager
def bench_of(
    files: Mapping[str, Path], contract: Contract, profile: Profile
) -> Iterator[tuple[Bench, list[Candidate]]]:
    """This machine with the files built on it, and what there is to time."""
    everything = [Candidate(name, file, "float32") for name, file in files.items()]
    with tempfile.TemporaryDirectory(prefix="retort-") as work, open_device("local") as device:
        folder = Path(work)
        shape = (32, *contract.decoding.shape)
        np.save(folder / "some.npy", np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
        bench = Bench(device, profile, contract, folder / "some.npy", folder)
        for one in everything:
            bench.build(one)
        yield bench, everything


def noise() -> Noise:
    """Measure for about a quarter of a minute."""
    profile, contract = read_profile("cpu"), Contract("nchw-float32", (SIZE, SIZE), ("a", "b"))
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        file = write_reference(contract, Path(folder) / "reference.onnx")
        with bench_of({"first": file, "second": file}, contract, profile) as (bench, both):
            timed, started = [], time.monotonic()
            with Bar("noise", PROCESSES) as bar:
                for seed in range(PROCESSES):
                    timed.append(bench.time(both, SECONDS, seed)["blocks"])
                    bar.step()
            took = (time.monotonic() - started) / PROCESSES
            return found(timed, took, bench.environment)


def found(timed: Sequence[dict[str, Any]], process_s: float, environment: dict[str, Any]) -> Noise:
    """The figures of some processes' blocks."""
    first: Blocks = [one["first"] for one in timed]
    second: Blocks = [one["second"] for one in timed]
    levels = quantiles(first, 0.5)
    return Noise(
        spread=float(np.std(np.log(ratios(first, second)), ddof=1)),
        drift=max(levels) / min(levels) - 1,
        process_s=process_s,
        load=environment["load"],
        governor=environment.get("governor"),
    )
