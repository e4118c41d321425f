"""docs/distillation.md: its table of schemes, from their catalogue; the rest of the page is written by hand."""

from __future__ import annotations

import inspect
import re

from benchmarks.evidence import ROOT, rows_of
from pipeline.schemes import SCHEMES

PAGE = ROOT / "docs" / "distillation.md"
START, END = "<!-- schemes: python -m benchmarks.schemes_doc -->", "<!-- /schemes -->"


def table() -> list[str]:
    """A row a scheme: who learns from whom, when to use it, what it costs, where it comes from."""
    rows = []
    for name, entry in SCHEMES.items():
        line = (inspect.getdoc(entry.make) or "").splitlines()[0].rstrip(".")
        rows.append((f"`{name}`", line, entry.when, entry.cost, entry.teachers, entry.paper))
    return rows_of(("scheme", "who learns from whom", "when", "cost", "teacher", "source"), rows)


def page(text: str) -> str:
    """The page with its table made anew."""
    between = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    return between.sub(lambda _: "\n".join([START, *table(), END]), text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
