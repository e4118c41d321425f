"""A user's own function, named ``module:function`` in a recipe and found beside it.

``models.net:build`` is ``build`` in ``models/net.py``, or in the package ``models/net/``, below the recipe's folder;
its modules may import one another, relatively or by name. They are loaded below a package with a name of its own, so
a user's ``pipeline.py`` never shadows ours. The files are part of what a stage is made from: they are found without
running them, count by content, and a checkpoint keeps its own copy of them.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.engine.store import digest
from targets.errors import Refusal

CLASSES = ("classes", "num_classes", "n_classes", "nclasses")  # how factories call the number of classes
CHANNELS = ("in_chans", "in_channels")
MOVED = {"pipeline.datasets": "from pipeline.data import Images"}


def is_factory(name: str) -> bool:
    return ":" in name


def code_files(name: str, folder: Path, more: Sequence[str] = ()) -> dict[str, Path]:
    """A factory's file, all below the folder that it imports, and the files that match ``more``.

    By their paths below ``folder``; empty for the factory of an installed package. Raises Refusal.
    """
    first = module_file(name.split(":")[0], folder)
    if first is None:
        return {}
    found, todo = {first}, [first]
    while todo:
        path = todo.pop()
        for module in imported_modules(path, folder):
            inner = module_file(module, folder)
            if inner is not None and inner not in found:
                found.add(inner)
                todo.append(inner)
    for pattern in more:
        matched = [path for path in folder.glob(pattern) if path.is_file()]
        if not matched or not all(path.resolve().is_relative_to(folder.resolve()) for path in matched):
            raise Refusal(f"files: '{pattern}' names no file below {folder}")
        found.update(matched)
    return {path.relative_to(folder).as_posix(): path for path in sorted(found)}


def module_file(module: str, folder: Path) -> Path | None:
    path = folder.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path if path.is_file() else None


def imported_modules(path: Path, folder: Path) -> Iterator[str]:
    """The names that a file's imports could mean below the folder, packages on the way included."""
    parts = path.relative_to(folder).with_suffix("").parts
    package = list(parts[:-1])
    for node in ast.walk(syntax(path)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *filter(None, [node.module])])
            names = [start, *(".".join(filter(None, (start, alias.name))) for alias in node.names)]
        for name in filter(None, names):
            words = name.split(".")
            yield from (".".join(words[:count]) for count in range(1, len(words) + 1))


def syntax(path: Path) -> ast.AST:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return ast.Module([], [])  # where it is loaded it is refused with the line


def packages_of(files: Mapping[str, Path]) -> frozenset[str]:
    """The installed packages that a user's files import, by the names of their imports."""
    own = {Path(name).parts[0].removesuffix(".py") for name in files}
    found = set()
    for path in files.values():
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return frozenset(found - own - set(sys.stdlib_module_names) - {"pipeline", "targets"})


def load_factory(name: str, folder: Path | None, where: str) -> Callable[..., Any]:
    """The function itself; ``folder`` holds its files, None for an installed package's. Raises Refusal."""
    module_name, _, attribute = name.partition(":")
    try:
        module = load_module(module_name, folder)
    except ModuleNotFoundError as error:
        hint = MOVED.get(str(error.name))
        raise Refusal(f"{where}: {module_name} cannot be imported: {hint or error}") from None
    except (ImportError, SyntaxError) as error:
        raise Refusal(f"{where}: {place_of(module_name, folder)} cannot be imported: {error}") from None
    except SystemExit:
        raise Refusal(
            f"{where}: {place_of(module_name, folder)} ends the program when it is imported; put what it does"
            " as a script below if __name__ == '__main__'"
        ) from None
    found = getattr(module, attribute, None)
    if not callable(found):
        raise Refusal(f"{where}: {place_of(module_name, folder)} has no function '{attribute}'")

    @functools.wraps(found, updated=())
    def called(*arguments: Any, **named: Any) -> Any:
        try:
            with without_command_line():
                return found(*arguments, **named)
        except SystemExit:
            raise Refusal(
                f"{where}: {attribute} of {place_of(module_name, folder)} ends the program; take what it reads from"
                " the command line as arguments"
            ) from None

    return called


def place_of(module: str, folder: Path | None) -> str:
    return str(module_file(module, folder) or module) if folder else f"module {module}"


@contextmanager
def without_command_line() -> Iterator[None]:
    """User code that reads the command line finds none: it is Retort's."""
    kept, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = kept


def load_module(name: str, folder: Path | None) -> ModuleType:
    if folder is None:
        with without_command_line():
            return importlib.import_module(name)
    alias = f"retort_user_{digest(str(folder))}"
    if alias not in sys.modules:
        root = ModuleType(alias)
        root.__path__ = [str(folder)]
        sys.modules[alias] = root
    # At the end: the files' own neighbours are found, and shadow nothing.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    with without_command_line():
        return importlib.import_module(f"{alias}.{name}")


def call_factory(
    factory: Callable[..., Any], classes: int, arguments: Mapping[str, Any], channels: int = 3
) -> Any:
    """A network of a factory: the number of classes goes by the name that the factory has for it, if it has any.

    So does the number of channels, where it is not 3.
    """
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # a callable that tells nothing
        return factory(classes=classes, **arguments)
    if channels != 3:
        arguments = {**{name: channels for name in CHANNELS if name in parameters}, **arguments}
    taken = [name for name in CLASSES if name in parameters]
    named = [p for p in parameters.values() if p.kind is not p.VAR_KEYWORD]
    if not taken and len(named) < len(parameters):  # such as torchvision's, which hand num_classes on
        taken = ["num_classes" if named else "classes"]
    return factory(**{name: classes for name in taken[:1] if name not in arguments}, **arguments)


@contextmanager
def only_reading(files: Mapping[str, Path], folder: Path | None, where: str) -> Iterator[None]:
    """While user code runs, notes the files below its folder that it opens. Raises Refusal for one not declared.

    A change of such a file would otherwise be answered with the old network from the store.
    """
    opened: list[Path] = []
    real = builtins.open

    def noting(file: Any, *arguments: Any, **more: Any) -> Any:
        if isinstance(file, (str, os.PathLike)):
            opened.append(Path(os.fsdecode(file)).absolute())
        return real(file, *arguments, **more)

    # ``pathlib`` opens by io's name for it. An audit hook would see more, but it can never be taken off again.
    builtins.open = io.open = noting
    try:
        yield
    finally:
        builtins.open = io.open = real
    known = {path.resolve() for path in files.values()}
    for path in (path.resolve() for path in opened) if folder else ():
        assert folder is not None, "there are files of a user"
        if path.is_file() and path.is_relative_to(folder.resolve()) and path not in known:
            name = path.relative_to(folder.resolve()).as_posix()
            raise Refusal(f'{where}: its code reads {name}; say so: files = ["{name}"]')
