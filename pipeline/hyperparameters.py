"""The hyper-parameters of a loss or a scheme: the keyword-only arguments of the function that makes it.

Their annotations are a closed set of words (``KINDS``), so what a recipe writes is checked before anything is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from targets.errors import Refusal, unknown

# What a recipe may write for a hyper-parameter, by its annotation.
KINDS: dict[str, Callable[[object], bool]] = {
    "float": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "Sequence[str]": lambda value: (
        isinstance(value, (list, tuple)) and all(isinstance(x, str) for x in value)
    ),
}


def check_arguments(
    name: str, make: Callable[..., object], arguments: Mapping[str, object], where: str
) -> None:
    """Raises Refusal for an unknown or missing hyper-parameter, and for one of another kind."""
    known: dict[str, Any] = {
        p.name: p for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY
    }
    for key, value in arguments.items():
        if key not in known:
            raise unknown(f"hyper-parameter of {name}", key, known or ["none"], where)
        if not KINDS[known[key].annotation](value):
            raise Refusal(f"{where}: {name}.{key} must be {known[key].annotation}, not {value!r}")
    lacking = [key for key, p in known.items() if p.default is p.empty and key not in arguments]
    if lacking:
        raise Refusal(f"{where}: {name} needs {', '.join(lacking)}")
