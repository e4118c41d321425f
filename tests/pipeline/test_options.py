"""Options of the commands that would be passed over, or mean nothing, are refused with status 2."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from pipeline.cli.inputs import pair, said_of
from pipeline.cli.main import main
from targets.errors import UNDECIDED, WRONG_INPUT, Refusal, status_of
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("explain {model} --device emulator:cortex-a76", "go with --images"),
        ("explain {model} --mean 0.5 --std 1", "go with --images"),
        ("explain {model} --json {model}/a.json", "Not a directory"),
        ("explain {model} --json {here}", "Is a directory"),
        ("explain {model} --json {here}/none/a.json", "No such file or directory"),
        ("deploy digits --rendezvous host:1", "--rendezvous: one node meets nobody"),
        ("deploy digits --store {model}", "File exists|Not a directory"),
        ("show digits --target {here}", "no target named"),
        ("gate {model} --images {here} --budget accuracy=1 --budget accuracy=2", "given twice"),
        ("gate {model} --images {here} --size -5", "--size -5: write pixels"),
        (f"gate {{model}} --images {{here}} --resize 8x{'9' * 5000}", "write pixels"),
        ("verify {model}", "no manifest.json"),
    ],
)
def test_wrong_input_is_status_2_in_one_line(
    words: str,
    said: str,
    small_network: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "here").mkdir()
    places = {"model": small_network("nchw-float32"), "here": tmp_path / "here"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the test run keeps its own
    monkeypatch.setattr(sys, "argv", ["retort", *(word.format(**places) for word in words.split())])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == WRONG_INPUT, told
    assert told.startswith("retort: ") and told.count("\n") == 1
    assert re.search(said, told)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOENT, WRONG_INPUT),
        (errno.ENOTDIR, WRONG_INPUT),
        (errno.EISDIR, WRONG_INPUT),
        (errno.EEXIST, WRONG_INPUT),
        (errno.EACCES, WRONG_INPUT),
        (errno.ELOOP, WRONG_INPUT),
        (errno.ENAMETOOLONG, WRONG_INPUT),
        (errno.ENOSPC, UNDECIDED),
        (errno.EIO, UNDECIDED),
        (errno.EMFILE, UNDECIDED),
    ],
)
def test_a_full_disk_is_no_wrong_input(number: int, status: int) -> None:
    assert status_of(OSError(number, os.strerror(number), "file")) == status


@pytest.mark.parametrize(
    ("text", "sides"), [(None, None), ("224", (224, 224)), ("48x192", (48, 192)), ("192x48", (192, 48))]
)
def test_a_size_is_height_then_width(text: str | None, sides: tuple[int, int] | None) -> None:
    assert pair(text, "--size") == sides
