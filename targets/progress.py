"""Progress of long work: a live bar on a terminal, a line now and then where the output is a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from targets.errors import one_line

LOG_EVERY_S = 10.0


class Bar:
    """One line of progress; ``step`` moves it, ``note`` says what is known so far."""

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self.title, self.total, self.done, self.note = title, total, done, ""
        self.console = Console(stderr=True)
        self.said = time.monotonic()
        columns = (
            TextColumn("  {task.description:<9}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
        )
        self.live = Progress(*columns, console=self.console, transient=True) if sys.stderr.isatty() else None

    def __enter__(self) -> Bar:
        if self.live:
            self.live.start()
            self.task = self.live.add_task(self.title, total=self.total, completed=self.done, note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def expect(self, total: int) -> None:
        """It is more than was thought."""
        self.total = total
        if self.live:
            self.live.update(self.task, total=total)

    def step(self, note: str = "", by: int = 1) -> None:
        self.done += by
        self.note = note or self.note
        if self.live:
            self.live.update(self.task, completed=self.done, note=self.note)
        elif time.monotonic() - self.said > LOG_EVERY_S:
            self.said = time.monotonic()
            print(f"  {self.title:<9} {self.done}/{self.total} {self.note}", file=sys.stderr, flush=True)


def say(what: str) -> None:
    """A line on the way, to standard error."""
    Console(stderr=True, highlight=False).print(f"  {one_line(what)}", markup=False, soft_wrap=True)


def track(things: Any, title: str) -> Iterator[Any]:
    """Go through a sequence with a bar."""
    with Bar(title, len(things)) as bar:
        for thing in things:
            yield thing
            bar.step()
