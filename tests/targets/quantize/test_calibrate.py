"""What is asked in a command's own process: an answer that never comes is ended, by its time or by a signal."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from support.endless import endless
from targets.errors import Unmeasurable
from targets.quantize import calibrate
from targets.spec.contract import read_contract

Ask = Callable[[], object]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    endless(tmp_path / "endless.onnx")
    model = onnx.load(tmp_path / "endless.onnx")
    contract = read_contract(model)
    assert contract is not None
    return lambda: calibrate.answers(model, [contract.prepare(contract.black(1))], contract)


def test_an_answer_is_waited_for_so_long(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "PATIENCE_S", 0.1)
    with pytest.raises(Unmeasurable, match=r"no answer within 0\.1 s"):
        ask()


class Told(Exception):
    """What a signal's handler raises."""


def test_a_signal_ends_it(ask: Ask) -> None:
    def told(*_: object) -> NoReturn:
        raise Told

    before = signal.signal(signal.SIGALRM, told)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Told):
            ask()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_answers_are_those_of_the_session(
    small_network: Callable[[str], Path], small_images: NDArray[np.uint8]
) -> None:
    run = calibrate.session(onnx.load(small_network("nchw-float32")))
    fed = {"images": small_images.transpose(0, 3, 1, 2).astype(np.float32)}
    for mine, theirs in zip(calibrate.patiently(run, ["f", "logits"], fed), run.run(None, fed), strict=True):
        np.testing.assert_array_equal(mine, theirs)
