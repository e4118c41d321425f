"""``make count``: the lines of code of pipeline/ and targets/, without comments, blank lines and docstrings."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter

from house import ROOT, sources

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


def main() -> None:
    lines: Counter[str] = Counter()
    for path in sources():
        lines[path.relative_to(ROOT).parts[0]] += code_lines(path.read_text(encoding="utf-8"))
    for name, count in lines.items():
        print(f"{name:<10} {count:>7,}")
    print(f"{'together':<10} {lines.total():>7,}")


if __name__ == "__main__":
    main()
