"""The code that a stage's result depends on: the definitions that are reached from its ``run``, and their packages.

A definition is a function, a class or a constant at the top of a module. From ``run`` on, every name that a
definition uses is looked up, in its module or where it is imported from, and followed. Of a catalogue (losses,
networks, image sets, criteria) only the entries that the recipe names are followed, so a new loss changes no key.
Docstrings, comments, annotations of functions, the texts of errors and of progress bars are left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

from pipeline.engine.store import digest

ROOT = Path(__file__).parents[2]
OWN = ("pipeline", "targets")
# They move processes, tell people what happens, and say what is judged afterwards; no tensor depends on them.
NEUTRAL = (
    "pipeline.engine",
    "pipeline.training.tensorboard",
    "targets.errors",
    "targets.limits",
    "targets.progress",
    "targets.runner.files",
)
NEUTRAL_PACKAGES = {"pydantic", "rich", "filelock", "typer", "jinja2", "markupsafe", "matplotlib"}
CATALOGUES = (
    "pipeline.losses",
    "pipeline.models.catalogue",
    "pipeline.models.cifar",
    "pipeline.models.pretrained",
    "pipeline.data.catalogue",
    "pipeline.pruning.criteria",
    "pipeline.schemes",
    "pipeline.tasks",
    "pipeline.artifacts.checkpoint",
    "pipeline.stages.export",
    "pipeline.stages.prune",
)
# What is copied to a device is reached by the name of its folder.
FOLDERS = {("targets.devices.base", "RUNNER"): "targets.runner"}
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}

Definition = tuple[str, str]  # module, name; the name "*" stands for the whole module


@dataclass(frozen=True)
class Scope:
    """What is reached: definitions by module and name with their normalised source, and packages."""

    definitions: dict[Definition, str] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Module:
    """A module's top level: its definitions, and what each imported name stands for (module, name or "")."""

    name: str
    definitions: dict[str, ast.stmt]
    imports: dict[str, set[Definition]]


def code_digest(start: str, names: frozenset[str] = frozenset()) -> tuple[str, dict[str, str]]:
    """Digest of all that ``module:function`` reaches, and the versions of the packages among it.

    ``names`` are the entries of catalogues that are used.
    """
    module, _, name = start.partition(":")
    scope = reach((module, name), names)
    rows = sorted((f"{module}:{name}", text) for (module, name), text in scope.definitions.items() if text)
    return digest(rows), versions(scope.packages)


def versions(packages: Set[str]) -> dict[str, str]:
    """The installed versions of packages, by the names that they are imported under."""
    found = {}
    for name in sorted(packages - NEUTRAL_PACKAGES):
        try:
            found[name] = metadata.version(DISTRIBUTIONS.get(name, name))
        except metadata.PackageNotFoundError:
            continue  # an optional one, which is not used then
    return found


def reach(start: Definition, names: frozenset[str]) -> Scope:
    scope, todo = Scope(), [start]
    while todo:
        module_name, name = todo.pop()
        if (module_name, name) in scope.definitions or module_name.startswith(NEUTRAL):
            continue
        if module_name.split(".")[0] not in OWN:
            scope.packages.add(module_name.split(".")[0])
            continue
        module = read_module(module_name)
        if name in module.definitions:
            used = names if is_catalogue(module_name, name, module.definitions[name]) else None
            text, found = content(module_name, name, used)
            scope.definitions[module_name, name] = text
            todo += found
        elif name in module.imports:  # handed on from where it is defined
            todo += module.imports[name]
        elif source_of(f"{module_name}.{name}").is_file():
            todo.append((f"{module_name}.{name}", "*"))
        elif name == "*":
            scope.definitions[module_name, name] = ""
            todo += [(module_name, each) for each in module.definitions]
        folder = FOLDERS.get((module_name, name))
        if folder is not None:
            todo += [(each, "*") for each in modules_below(folder)]
    return scope


@cache
def content(module_name: str, name: str, used: frozenset[str] | None) -> tuple[str, tuple[Definition, ...]]:
    """A definition's normalised source and what it refers to; of a catalogue's table only the entries in use."""
    module = read_module(module_name)
    node = module.definitions[name]
    parts = [node] if used is None else entries(node, used)
    found = [each for part in parts for each in references(part, module)]
    found += merged(node, module) if used is not None else ()
    return "\n".join(ast.unparse(part) for part in parts), tuple(found)


def references(node: ast.AST, module: Module) -> Iterator[Definition]:
    """What a definition's names stand for."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        for target, name in module.imports.get(node.value.id, ()):
            inner = f"{target}.{name}" if name else target
            # ``checkpoint.load``, where ``checkpoint`` is a module of ours.
            yield (inner, node.attr) if source_of(inner).is_file() else (target, name)
        if node.value.id in module.definitions:
            yield module.name, node.value.id
        return
    if isinstance(node, ast.Name):
        yield from module.imports.get(node.id, ())
        if node.id in module.definitions:
            yield module.name, node.id
    if isinstance(node, ast.Import):  # ``import a.b`` for what the import itself does
        yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] not in OWN)
    for child in ast.iter_child_nodes(node):
        yield from references(child, module)


def is_catalogue(module: str, name: str, node: ast.stmt) -> bool:
    return (
        module.startswith(CATALOGUES)
        and name.isupper()
        and isinstance(getattr(node, "value", None), ast.Dict)
    )


def entries(table: ast.stmt, names: Set[str]) -> list[ast.AST]:
    """Of a catalogue's table the entries that are named, and those whose keys are computed."""
    found: list[ast.AST] = []
    for key, entry in zip(table.value.keys, table.value.values, strict=True):  # type: ignore[attr-defined]
        named = isinstance(key, ast.Constant) and key.value in names
        computed = not isinstance(key, ast.Constant) and not is_table(entry)
        found += [entry] if named or computed else []
    return found


def is_table(node: ast.AST) -> bool:
    """``**RESPONSE``: another table by its name."""
    return isinstance(node, ast.Name) and node.id.isupper()


def merged(table: ast.stmt, module: Module) -> Iterator[Definition]:
    """The tables that a table is put together from; they are catalogues themselves."""
    value = getattr(table, "value", None)
    for entry in value.values if isinstance(value, ast.Dict) else ():
        if is_table(entry):
            yield from references(entry, module)


@cache
def read_module(name: str) -> Module:
    path = source_of(name)
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, set[Definition]] = {}
    tree = Plain().visit(ast.parse(path.read_text(encoding="utf-8")))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in tree.body:
        for bound in names_bound(node):
            definitions[bound] = node
    for node in ast.walk(tree):
        for bound, target in names_imported(node, package):
            imports.setdefault(bound, set()).add(target)
    return Module(name, definitions, imports)


def names_bound(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [
        part.id for target in targets if target for part in ast.walk(target) if isinstance(part, ast.Name)
    ]


def names_imported(node: ast.AST, package: str) -> Iterator[tuple[str, Definition]]:
    """Each name that an import binds, and the module and name that it stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            full = alias.name if alias.asname else alias.name.split(".")[0]
            yield alias.asname or full, (full, "")
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*parents, *filter(None, [node.module])])
        yield from ((alias.asname or alias.name, (base, alias.name)) for alias in node.names)


def forget() -> None:
    """A process sees one state of the sources; a test sees several."""
    read_module.cache_clear()
    content.cache_clear()


def source_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def modules_below(folder: str) -> list[str]:
    paths = sorted(ROOT.joinpath(*folder.split(".")).rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


class Plain(ast.NodeTransformer):
    """Takes out what changes no result: docstrings, functions' annotations, the texts of errors and of bars."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        for argument in (*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs):
            argument.annotation = None
        return self.without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self.without_docstring(node)

    def without_docstring(self, node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.copy_location(ast.Raise(kind), node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return self.generic_visit(ast.copy_location(ast.Assert(node.test), node))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "bar":
            node.args, node.keywords = [], []
        return self.generic_visit(node)
