"""The page of distillation has every scheme as the catalogue has it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the schemes are torch's")

from benchmarks import schemes_doc
from pipeline.schemes import SCHEMES


def test_the_page_has_every_scheme_as_the_catalogue_has_it() -> None:
    text = schemes_doc.PAGE.read_text(encoding="utf-8")
    assert text == schemes_doc.page(text)
    assert [name for name in SCHEMES if f"| `{name}` |" not in text] == []
