"""The signals that tell a command to end, and what then unwinds it."""

from __future__ import annotations

import signal
from typing import NoReturn

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """Told to end by a signal, which is its argument; typer turns no such thing into status 1, a failed budget."""


def heed_endings() -> None:
    """From now on they raise ``Ended``, but for those that whoever started us has us ignore."""
    for number in ENDINGS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background
            signal.signal(number, end)


def end(number: int, _: object) -> NoReturn:
    """Unwind, so that child processes and temporary folders go too; once, so that nothing disturbs that."""
    ignore_endings()
    raise Ended(number)


def ignore_endings() -> None:
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)
