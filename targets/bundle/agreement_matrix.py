"""One student over every runtime and processor that answered: how often alike, and how far apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from targets.budgets.evidence import Answers
from targets.tasks.task import Task, same_answers


@dataclass(frozen=True)
class Proof:
    """A target's part of the report, and what its candidates answered; nothing where a stand-in did."""

    table: dict[str, Any]
    answers: Mapping[str, Answers]  # by candidate
    int8: Collection[str] = ()  # the candidates in int8


def agreement_matrix(proofs: Sequence[Proof], task: Task) -> list[dict[str, Any]]:
    """A row for each int8 candidate and each two targets that ran it: the same answers, the largest difference.

    The files may differ (another grid for another runtime); the trained network is one.
    """
    rows = []
    for first, second in combinations([proof for proof in proofs if proof.answers], 2):
        for name in first.answers:
            if name in first.int8 and name in second.answers:
                mine, theirs = first.answers[name], second.answers[name]
                rows.append(
                    {
                        "candidate": name,
                        "targets": [place(first.table), place(second.table)],
                        "same": asdict(same_answers(task, mine, theirs)),
                        "largest": float(np.abs(mine - theirs).max()),
                        "reach": float(np.abs(mine).max()),
                        "apart": np.flatnonzero(task.same(mine, theirs) < 1)[:10].tolist(),
                    }
                )
    return rows


def place(table: Mapping[str, Any]) -> str:
    """``rpi5 (emulator:cortex-a76)``"""
    return str(table["target"]) if table["device"] == "local" else f"{table['target']} ({table['device']})"
