"""docs/distillation.md: its table, from the catalogue's docstrings and the results of benchmarks.methods.

Everything else on that page is written by hand, around the table's two marks.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

from benchmarks.evidence import RESULTS, ROOT, rows_of
from benchmarks.methods_table import ALONE, by_method, difference, said
from pipeline.losses import LOSSES

PAGE = ROOT / "docs" / "distillation.md"
START, END = "<!-- table: python -m benchmarks.methods_doc -->", "<!-- /table -->"

WHEN = {
    "kd": "Always the first to try.",
    "hard-target": "The teacher gives names only, no probabilities.",
    "logits": "A regression of answers, without a temperature to choose.",
    "dkd": "Many classes, a sure teacher.",
    "dist": "A teacher much stronger than the student.",
    "logit-std": "Answers of very different size in both networks.",
    "eskd": "A small student of a large teacher, and a long training.",
    "conditional": "A teacher that is often wrong.",
    "ka-shift": "The same, keeping its doubts.",
    "ka-smooth": "The same, forgetting its doubts.",
    "dtd": "Images of very different difficulty.",
    "tf-kd": "No teacher at hand.",
    "unix": "The teacher is too slow for every image.",
    "fitnet": "A deep, thin student.",
    "m-fitnet": "All stages matter alike; SRKD's plain twin.",
    "projection": "It is not known which stages belong together.",
    "pad": "Some images are beyond the student.",
    "feed": "Several teachers.",
    "at": "Widths differ, and where to look matters; set its weight on a small set.",
    "at-paper": "The same, each stage bounded.",
    "nst": "Widths differ.",
    "cwd": "Dense features, few stages.",
    "srkd": "The same stages in both networks; beside kd.",
    "lit": "The same stages and widths, a shallower student.",
    "stage-by-stage": "No labels for most images; with label_weight = 0.",
    "inherited": "The teacher's classifier is worth keeping; with label_weight = 0.",
    "tofd": "A few heads while training are no burden.",
    "afd": "It is not known which stages belong together.",
    "semckd": "The same, by images; unlike architectures.",
    "reviewkd": "Among the strongest of the literature's feature methods, and the slowest.",
    "mgd": "No learnt adapters are wanted.",
    "ab": "A good start for the student's first epochs.",
    "ft": "One strong signal from the last stage.",
    "ofd": "As fitnet, sparing what the teacher silences.",
    "vid": "Noisy features: it learns what cannot be met.",
    "sp": "Unlike architectures; large batches.",
    "cc": "Unlike architectures; small features.",
    "rkd": "Embeddings and retrieval.",
    "pkt": "Unlike architectures; embeddings.",
    "irg": "Relations at several stages.",
    "category": "Few classes, many images of each in a batch.",
    "fsp": "Equal widths; a start for the first epochs.",
    "ickd": "What channels mean together.",
    "crd": "Unlike architectures, a long training.",
}


def equation(name: str) -> str:
    """What a docstring's first paragraph says after its name, on one line."""
    first = (inspect.getdoc(LOSSES[name].loss) or "").split("\n\n")[0]
    return " ".join(first.partition(":")[2].split()).replace("|", "\\|")


def table(results: Path) -> list[str]:
    """A row a method: equation, when to use it, what we measured, what it costs."""
    found = by_method(json.loads(results.read_text(encoding="utf-8"))) if results.exists() else {}
    rows = []
    for name, entry in LOSSES.items():
        gain = said(difference(found.get(name, {}), found.get(ALONE, {})))[0]
        rows.append((f"`{name}`", entry.kind, equation(name), WHEN[name], gain, entry.cost))
    return rows_of(("method", "kind", "loss", "when", "gain, points", "cost"), rows)


def page(text: str, rows: list[str]) -> str:
    """The page with its table made anew."""
    between = re.compile(f"{re.escape(START)}.*{re.escape(END)}", re.DOTALL)
    return between.sub(lambda _: "\n".join([START, *rows, END]), text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), table(RESULTS / "methods.json")), encoding="utf-8")
