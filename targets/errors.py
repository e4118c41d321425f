"""How Retort says no: one line that names what, where and the mend, and the exit status it stands for."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

PASSED, FAILED, WRONG_INPUT, UNDECIDED = 0, 1, 2, 3
MOST = 80  # characters of a wrong value that are shown
BROKEN = 70  # an error that was not foreseen: sysexits' EX_SOFTWARE


MOST_INTEGER = 2**31  # no setting is as large
# What a path that was given leads to; all else that the system says no to (a full disk) is no wrong input.
WRONG_PATHS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
WRONG_NAMES = (errno.ELOOP, errno.ENAMETOOLONG)


class Refusal(Exception):
    """The input cannot be used as it is (exit status 2)."""

    status = WRONG_INPUT


class Unmeasurable(Refusal):
    """Something that was asked for could not be measured or run here (exit status 3)."""

    status = UNDECIDED


class Broken(Refusal):
    """An error of Retort's own in a process that it started (exit status 70)."""

    status = BROKEN


def first_line(error: BaseException) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def status_of(error: OSError) -> int:
    """The exit status of what the system says no to."""
    wrong = isinstance(error, WRONG_PATHS) or error.errno in WRONG_NAMES
    return WRONG_INPUT if wrong else UNDECIDED


def foreseen(error: Exception) -> tuple[str, int] | None:
    """The line and the exit status of an error that any command may meet; None for one of Retort's own."""
    if isinstance(error, Refusal):
        return str(error), error.status
    if isinstance(error, ModuleNotFoundError):
        return f"{error}; pip install 'retort[train]'", UNDECIDED
    if isinstance(error, OSError):
        return f"{error}; free or mend it and run again", status_of(error)
    return None


def check_integers(table: object) -> object:
    """A table or a list as it is. Raises ValueError for an integer that no setting can be."""
    values = table.values() if isinstance(table, dict) else table if isinstance(table, list) else ()
    for value in values:
        if isinstance(value, int) and abs(value) >= MOST_INTEGER:
            raise ValueError("an integer of 2^31 or more is no setting")
        if isinstance(value, list):
            check_integers(value)
    return table


def one_line(text: str) -> str:
    """Text that cannot steer a terminal, nor a CI that reads commands from what is printed (``::set-output``)."""
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    return shown.replace("##[", "##\ufffd[")


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean 'p99_ms'?``, or what there is where nothing is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names[:12])}"


def unknown(kind: str, name: str, known: Iterable[str], where: str) -> Refusal:
    """The refusal for a name that is in no catalogue, with the nearest that is."""
    return Refusal(f"{where}: no {kind} named '{name}'; {nearest(name, known)}")


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for the first fault of a table: where, what, and the nearest key that exists."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    where = ".".join(place) or "the file"
    if first["type"] == "extra_forbidden":
        return f"{where}: no such key; {nearest(place[-1], keys_at(model, place[:-1]))}"
    if first["type"] == "missing":
        return f"{where}: missing, and needed"
    said = first["msg"].removeprefix("Value error, ")
    if not place:
        return said
    given = repr(first["input"])
    shown = given if len(given) <= MOST else f"{given[:MOST]}…"
    return f"{where}: {said} (got {shown})"


def keys_at(model: type[BaseModel], place: list[str]) -> Iterable[str]:
    """The keys of the table at a place; a table may stand in a list, or be left out."""
    for part in place:
        if part in model.model_fields:
            model = next(tables_in(model.model_fields[part].annotation), model)
    return model.model_fields


def tables_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        yield annotation
    for inner in get_args(annotation):
        yield from tables_in(inner)
