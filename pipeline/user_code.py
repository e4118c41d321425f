"""A user's own function, named ``module:function`` in a recipe and found beside it.

The file is loaded by its path under a name of its own, so a user's ``pipeline.py`` never shadows ours.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from targets.errors import Refusal


def is_factory(name: str) -> bool:
    return ":" in name


def find_factory(name: str, folder: Path) -> Path | None:
    """The file of ``module:function`` beside the recipe; None if it is an installed package's."""
    path = folder.joinpath(*name.split(":")[0].split(".")).with_suffix(".py")
    return path if path.is_file() else None


def sources(name: str, folder: Path) -> dict[str, Path]:
    """The file of a factory and the neighbours it imports, by name; empty if it is a package's."""
    first = find_factory(name, folder)
    if first is None:
        return {}
    found, todo = {"source": first}, [first]
    while todo:
        try:
            tree = ast.parse(todo.pop().read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue  # the one who loads it says so, with the line
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for module in {".".join(name.split(".")[:n]) for name in names for n in range(1, 9)}:
                path = first.parent.joinpath(*module.split("."))
                path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
                if path.is_file() and path not in found.values():
                    found[f"source.{module}"] = path
                    todo.append(path)
    return found


def load_factory(name: str, source: Path | None, where: str) -> Callable[..., Any]:
    """The function itself. Raises Refusal when the module or the function is not there."""
    module_name, _, attribute = name.partition(":")
    try:
        if source is None:
            module = importlib.import_module(module_name)
        else:
            alias = f"retort_user_{source.stem}"
            spec = importlib.util.spec_from_file_location(alias, source)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[alias] = module
            # At the end: the file's own neighbours are found, and shadow nothing.
            if str(source.parent) not in sys.path:
                sys.path.append(str(source.parent))
            spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        place = source or f"module {module_name}"
        raise Refusal(f"{where}: {place} cannot be imported: {error}") from None
    found = getattr(module, attribute, None)
    if not callable(found):
        raise Refusal(f"{where}: {source or module_name} has no function '{attribute}'")
    return found  # type: ignore[no-any-return]
