"""What the end of a stage by an error says to its user, in one line with an exit status."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from targets.errors import BROKEN, UNDECIDED, WRONG_INPUT, Refusal, first_line, status_of

ROOT = Path(__file__).parents[2]
# Code in these folders is not the user's: this project, and what is installed. Python's own frames have no file.
INSTALLED = (ROOT / "pipeline", ROOT / "targets", Path(sys.prefix), Path(sys.base_prefix))
# torch's words, on a processor and on a GPU.
NO_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc")


def ending(error: Exception, stage: str, scratch: Path) -> tuple[str, int]:
    """The line and the status; ``scratch`` is what a new try would go on from."""
    if isinstance(error, Refusal):
        return str(error), error.status
    if isinstance(error, ModuleNotFoundError):
        return f"{stage}: {error}; pip install 'retort[train]'", UNDECIDED
    if isinstance(error, OSError):
        return f"{stage}: {error}; free or mend it and run again", status_of(error)
    what = f"{type(error).__name__}: {first_line(error)}"
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        return f"{stage}: {what}; choose a smaller batch or network, or free memory, and run again", UNDECIDED
    if (place := users_line(error)) is not None:
        return f"{stage}: {place}: {what}; mend it there and run again", WRONG_INPUT
    begun = f"to begin anew, without what an earlier run left: remove {scratch}"
    return f"{stage}: {what} (--debug shows where; {begun}): please report it", BROKEN


def users_line(error: Exception) -> str | None:
    """The innermost line of the user's own code, as ``net.py, line 7``; None where none of it was running."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_absolute() and not any(path.is_relative_to(folder) for folder in INSTALLED):
            return f"{path.name}, line {frame.lineno}"
    return None
