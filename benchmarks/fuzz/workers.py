"""Processes that run cases, and are replaced when they die or hang."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from pathlib import Path

from benchmarks.fuzz.once import prepare
from benchmarks.fuzz.outcome import Outcome, tried

LIMIT_S = 60  # a case takes milliseconds; beside other work a machine may be slow
MEMORY = 4 << 30  # bytes: what asks for more is told so, and the machine stays whole


def work(pipe: Connection, seed: int, corpus: Path, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prepare()
    while (asked := pipe.recv()) is not None:
        pipe.send(asdict(tried(seed, asked[0], corpus, place, asked[1])))


class Worker:
    """A process, and the case that it is at."""

    def __init__(self, seed: int, corpus: Path, place: Path) -> None:
        self.pipe, other = multiprocessing.Pipe()
        self.place, self.since, self.number = place, 0.0, -1
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=work, args=(other, seed, corpus, place), daemon=True)
        self.process.start()
        other.close()

    def give(self, number: int, alone: bool) -> None:
        self.number, self.since = number, time.monotonic()
        self.pipe.send((number, alone))

    def ended(self) -> Outcome | None:
        """What its case came to; of a process that died or hangs, that."""
        try:
            if self.pipe.poll():
                return Outcome(**self.pipe.recv())
        except EOFError:
            self.process.join()
            code = self.process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"status {code}"
            return Outcome("?", "?", code, "", f"the process died: {how}")
        if time.monotonic() - self.since > LIMIT_S:
            return Outcome("?", "?", 124, "", f"no end within {LIMIT_S} s")
        return None

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        shutil.rmtree(self.place, ignore_errors=True)


def run(
    todo: Iterable[tuple[int, bool]], seed: int, corpus: Path, place: Path, count: int
) -> Iterator[tuple[int, Outcome]]:
    """The outcome of each case (its number, whether it is a real command), as they come."""
    numbers, workers = iter(todo), list[Worker]()

    def begin(worker: Worker | None = None) -> None:
        """The next case, by a process that is there or by a new one; none where there are no more."""
        asked = next(numbers, None)
        if asked is None:
            if worker is not None:
                worker.stop()
            return
        worker = worker or Worker(seed, corpus, place / f"worker {asked[0]}")
        worker.give(*asked)
        workers.append(worker)

    try:
        for _ in range(count):
            begin()
        while workers:
            wait([one.pipe for one in workers], timeout=1)
            for one in list(workers):
                outcome = one.ended()
                if outcome is None:
                    continue
                yield one.number, outcome
                workers.remove(one)
                if outcome.kind == "?":
                    one.stop()
                begin(None if outcome.kind == "?" else one)
    finally:
        for one in workers:
            one.stop()
