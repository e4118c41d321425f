"""Options of the commands that would be passed over, or mean nothing, are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from pipeline.cli.inputs import said_of
from targets.errors import Refusal
from targets.spec.contract import contract_of

HALF = "0.5,0.5,0.5"


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        (None, HALF, "go together"),
        (HALF, None, "go together"),
        (HALF, "0.5,-1,0.5", "above 0"),
        (HALF, "0.5,0,0.5", "above 0"),
        (HALF, "0.5,inf,0.5", "finite"),
        ("nan,0,0", HALF, "finite"),
        ("0.5,0.5", HALF, "three numbers"),
    ],
)
def test_a_normalisation_that_is_none_is_refused(
    mean: str | None, std: str | None, said: str, small_network: Callable[[str], Path]
) -> None:
    foreign = onnx.load(small_network("nchw-float32"))
    with pytest.raises(Refusal, match=said):
        contract_of(foreign, "here", said_of(mean=mean, std=std))


@pytest.mark.parametrize(
    ("mean", "std", "found"),
    [
        (HALF, "1,1,1", ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))),
        ("0.5", "1", ((0.5,), (1.0,))),
        (None, None, ((), ())),
    ],
)
def test_both_or_neither_are_taken(mean: str | None, std: str | None, found: object) -> None:
    said = said_of(mean=mean, std=std)
    assert (said.mean, said.std) == found
