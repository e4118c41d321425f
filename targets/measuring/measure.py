"""measure: candidates on a device: built, asked every image, timed in turns. Never from a cache."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.budgets.evidence import Measured
from targets.convert.mobile import OPERATORS
from targets.devices.base import Local
from targets.devices.connect import open_device
from targets.measuring.bench import Bench
from targets.measuring.candidate import Candidate, Measurement
from targets.measuring.throttling import throttling
from targets.progress import Bar
from targets.runner.backends import REFERENCE
from targets.runner.files import atomic_write
from targets.spec.contract import Contract
from targets.spec.profile import Profile
from targets.stats.intervals import ERROR, LOOKS, until_settled

ROUNDING = 1e-5  # of the largest logit


def measure(
    candidates: Sequence[Candidate],
    contract: Contract,
    profile: Profile,
    device_name: str,
    images: Path,
    out: Path,
    comparisons: Sequence[Candidate] = (),
    enough: Callable[[Measurement], bool] = lambda found: True,
) -> Measurement:
    """Build, ask and time; the files as they ran there are left in ``out``. Raises Unmeasurable.

    Timed in fresh processes, because a session is a sample too: as many as the first look wants, and on to the
    next look while ``enough`` says no and the profile's seconds last.
    """
    everything = [*candidates, *comparisons]
    bar = Bar(profile.name, 2 * len(everything) + LOOKS[0])
    with tempfile.TemporaryDirectory(prefix="retort-") as work, open_device(device_name) as device, bar:
        bench = Bench(device, profile, contract, images, Path(work))
        seen = untimed(bench, everything, out, bar)
        same_job = device_name == "local" and reference_job(bench) == bench.base
        for one in candidates:
            here = answers_here(bench, one)
            again = here if same_job else bench.ask_again(one)
            unsteady = changed_answers(seen[one.name].logits, again)
            seen[one.name] = replace(seen[one.name], here=here, unsteady=unsteady)
        names = [one.name for one in comparisons]
        if bench.untimed:
            found = collected(seen, [], names, profile, device_name)
            return replace(found, untimed=bench.untimed, environment=bench.environment)
        heated = throttling(bench.sustain(everything, profile.sustained)) if profile.sustained else {}

        def take(number: int) -> dict[str, Any]:
            done = bench.time(everything, profile.seconds / LOOKS[-1], number)
            bar.expect(2 * len(everything) + next(look for look in LOOKS if look > number))
            bar.step(f"timed {number + 1}")
            return done

        def so_far(timed: Sequence[dict[str, Any]]) -> Measurement:
            found = collected(seen, timed, names, profile, device_name)
            return replace(found, throttling=heated)

        timed = until_settled(take, lambda taken: enough(so_far(taken)))
        for one in candidates:
            seen[one.name].facts.update(bench.vendor(one))
    return so_far(timed)


def changed_answers(first: NDArray[np.float32], again: NDArray[np.float32]) -> int:
    """How many images of those asked again, the first ones, another process answered otherwise.

    Rounding aside: threads may add in another order.
    """
    first = first[: len(again)]
    reach = np.abs(first, where=np.isfinite(first), out=np.zeros_like(first)).max()
    same = np.isclose(first, again, rtol=0, atol=ROUNDING * float(reach), equal_nan=True)
    return int((~same).reshape(len(again), -1).any(1).sum())


def reference_job(bench: Bench) -> dict[str, Any]:
    """What answers on this machine are taken by, to compare the device's with."""
    return {**bench.base, "backend": REFERENCE, "backend_file": None, "format": "onnx"}


def answers_here(bench: Bench, one: Candidate) -> NDArray[np.float32]:
    """What ONNX Runtime on this machine's processor makes of the very tensors that the device runs."""
    job = {**reference_job(bench), "options": bench.options(one)}
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        device = Local(Path(folder))
        device.put(bench.images, "images.npy")
        device.put(bench.reference(one), f"{one.name}.onnx")
        device.run({**job, "do": "answer", "engine": f"{one.name}.onnx", "answers": "answers.npy"})
        device.get("answers.npy", bench.work / f"{one.name}.here.npy")
    return bench.answers(bench.work / f"{one.name}.here.npy", one)


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
            with atomic_write(out / f"{one.name}.{OPERATORS}.config") as config:
                config.write(facts[one.name][OPERATORS].encode())
        bar.step(f"asked {one.name}")
        whose = (one.network, one.precision, one.method)
        seen[one.name] = Measured(file, file.stat().st_size, memory, logits, [], facts[one.name], *whose)
    return seen


def collected(
    seen: Mapping[str, Measured],
    timed: Sequence[dict[str, Any]],
    comparisons: Sequence[str],
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
    others = {name: found.pop(name) for name in comparisons}
    return Measurement(profile.name, device, found, environment, protocol, simulated, others)


def keep(file: Path, folder: Path) -> Path:
    """Copy a file into a folder so that whoever looks sees it whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / file.name) as kept:
        kept.write(file.read_bytes())
    return folder / file.name
