"""What does not change from case to case, made once a process, so that a case takes milliseconds."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import metadata
from typing import Any
from unittest import mock

import jinja2
import typer

HEAVY = (
    "onnxruntime",
    "targets.report.table",
    "targets.gate.gate",
    "targets.quantize.quantize",
    "pipeline.line",
)


def prepare() -> None:
    """The command's parser, the versions of packages, and the pages' templates."""
    from pipeline.cli import main as cli
    from pipeline.engine import code_digest, stage
    from targets.provenance import sbom

    for name in HEAVY:
        importlib.import_module(name)
    cli.app = typer.main.get_command(cli.app)  # type: ignore[assignment]  # called alike
    found = code_digest.versions
    versions = cache(lambda names: found(names))
    code_digest.versions = stage.versions = lambda names: versions(frozenset(names))
    sbom.packages_distributions = cache(metadata.packages_distributions)
    compiled, compile_template = dict[str, Any](), jinja2.Environment.compile

    def kept(self: jinja2.Environment, source: str, *more: Any, **options: Any) -> Any:
        if source not in compiled:
            compiled[source] = compile_template(self, source, *more, **options)
        return compiled[source]

    jinja2.Environment.compile = kept  # type: ignore[assignment,method-assign]


@contextmanager
def shorter_report() -> Iterator[None]:
    """A report without pictures, each of which takes a second, nor the list of installed packages."""
    from targets.provenance import sbom
    from targets.report import figures, strips

    empty = lambda *_: "<svg></svg>"
    pictures = [(figures, "ladder"), (figures, "tradeoff"), (figures, "latencies"), (strips, "budgets")]
    with ExitStack() as patched:
        for module, name in (*pictures, (strips, "throttling")):
            patched.enter_context(mock.patch.object(module, name, empty))
        patched.enter_context(mock.patch.object(sbom, "distributions", list))
        yield
