"""``make count``: the lines of code of pipeline/ and targets/, without comments, blank lines and docstrings.

And how many of their expressions have no type, by mypy's own count: more than ``MOST`` of them is an error.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

from house import ROOT, sources

MOST = 0.04  # of the expressions: the share that may be Any
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def code_lines(text: str) -> int:
    """How many lines hold a token of code."""
    held: set[int] = set()
    for token in tokenize.tokenize(io.BytesIO(text.encode()).readline):
        if token.type not in NO_CODE:
            held.update(range(token.start[0], token.end[0] + 1))
    return len(held - docstring_lines(ast.parse(text)))


def docstring_lines(tree: ast.AST) -> set[int]:
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                found.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return found


def untyped(report: str) -> tuple[int, int]:
    """How many expressions are Any, of how many: the last line of mypy's any-exprs.txt."""
    _, some, every, _ = report.splitlines()[-1].split()
    return int(some), int(every)


def main(report: Path) -> int:
    lines: Counter[str] = Counter()
    for path in sources():
        lines[path.relative_to(ROOT).parts[0]] += code_lines(path.read_text(encoding="utf-8"))
    for name, count in lines.items():
        print(f"{name:<10} {count:>7,}")
    print(f"{'together':<10} {lines.total():>7,}")
    some, every = untyped(report.read_text(encoding="utf-8"))
    print(f"{'Any':<10} {some:>7,} of {every:,} expressions, {some / every:.1%} (at most {MOST:.0%})")
    return int(some > MOST * every)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
