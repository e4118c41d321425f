"""What a recipe may write for a hyper-parameter: by its annotation, and nothing that only looks like it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.hyperparameters import KINDS, check_arguments
from targets.errors import Refusal

FITS: dict[str, list[object]] = {
    "float": [0.5, 2],
    "int": [2],
    "bool": [True],
    "str": ["a"],
    "Sequence[str]": [["a"], ("a", "b"), []],
}
VALUES: list[object] = [0.5, 2, True, "a", ["a"], ("a", "b"), [], [1], None]


def toy(
    *, share: float, count: int = 1, on: bool = True, name: str = "", names: Sequence[str] = ()
) -> None: ...


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_fits_its_kind_alone(kind: str) -> None:
    fitting = [value for value in VALUES if KINDS[kind](value)]
    assert [(type(one), one) for one in fitting] == [(type(one), one) for one in FITS[kind]]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"share": 1, "count": 0.5}, "toy.count must be int, not 0.5"),
        ({"share": 1, "count": True}, "toy.count must be int, not True"),
        ({"share": "much"}, "toy.share must be float"),
        ({"shar": 1}, "did you mean 'share'"),
        ({"count": 2}, "toy needs share"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, object], told: str) -> None:
    with pytest.raises(Refusal, match=told):
        check_arguments("toy", toy, arguments, "distill.loss")


def test_what_fits_is_taken() -> None:
    check_arguments("toy", toy, {"share": 0.5, "count": 2, "on": False, "name": "a", "names": ["b"]}, "here")
