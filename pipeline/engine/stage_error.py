"""What the end of a stage by an error says to its user, in one line with an exit status."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from targets.errors import BROKEN, UNDECIDED, WRONG_INPUT, Refusal, first_line, foreseen

ROOT = Path(__file__).parents[2]
# Code in these folders is not the user's, nor is what was installed, whichever environment it lies in.
OURS = (ROOT / "pipeline", ROOT / "targets", Path(sysconfig.get_path("stdlib")))
INSTALLED = {"site-packages", "dist-packages"}
# torch's words, on a processor and on a GPU.
NO_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc")


def ending(error: Exception, stage: str, scratch: Path) -> tuple[str, int]:
    """The line and the status; ``scratch`` is what a new try would go on from."""
    message, status = foreseen(error) or unforeseen(error, scratch)
    return (message if isinstance(error, Refusal) else f"{stage}: {message}"), status


def unforeseen(error: Exception, scratch: Path) -> tuple[str, int]:
    what = f"{type(error).__name__}: {first_line(error)}"
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        return f"{what}; choose a smaller batch or network, or free memory, and run again", UNDECIDED
    if (frame := users_frame(error)) is not None:
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        return f"{place}: {what}; mend it there and run again", WRONG_INPUT
    begun = f"to begin anew, without what an earlier run left: remove {scratch}"
    return f"{what} (--debug shows where; {begun}): please report it", BROKEN


def users_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost line of the user's own code that an error came by; None where none of it was running."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)  # of code without a file it is no path: <frozen …>
        ours = any(path.is_relative_to(folder) for folder in OURS)
        if path.is_absolute() and not ours and INSTALLED.isdisjoint(path.parts):
            return frame
    return None
