"""Targets: every profile that ships reads, and a wrong one is refused with what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from targets.errors import Refusal
from targets.runner.backends import BACKENDS
from targets.spec.profile import profiles, read_profile, targets_of


@pytest.mark.parametrize("name", profiles())
def test_a_profile_reads_and_says_where_its_numbers_come_from(name: str) -> None:
    profile = read_profile(name)
    assert profile.name == name and profile.about
    assert profile.backend in BACKENDS
    assert profiles()[name].read_text().startswith("# "), "the first lines say where its numbers come from"


def test_a_profile_may_start_from_one_that_ships(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "rpi5"\nthreads = 4\n')
    mine, base = read_profile(str(tmp_path / "mine.toml")), read_profile("rpi5")
    assert mine == base.model_copy(update={"name": "mine", "threads": 4})


def test_all_targets_are_those_that_ship() -> None:
    assert [one.name for one in targets_of("all")] == sorted(profiles())
    assert [one.name for one in targets_of("rpi5,cpu")] == ["rpi5", "cpu"]


WRONG = [
    ('extends = "rpi6"', "no target named 'rpi6'; did you mean 'rpi"),
    ("extends = 3", "no target named '3'"),
    ("", "about: missing, and needed"),
    ('about = "x"\nbackend = "onnxrt"', "backend"),
    ('about = "x"\nbackend = "onnxruntime"\nthread = 2', "thread: no such key; did you mean 'threads'"),
    ('about = "x"\nbackend = "onnxruntime"\nthreads = 0', "threads"),
    ('about = "x"\nbackend = "onnxruntime"\nseconds = inf', "seconds: Input should be a finite number"),
    ('about = "x"\nbackend = "onnxruntime"\nsustained = nan', "sustained: Input should be a finite number"),
    (f'about = "x"\nbackend = "onnxruntime"\npatience = {10**400}', "an integer of 2^31 or more"),
    (f'about = "x"\nbackend = "onnxruntime"\nthreads = {2**31}', "an integer of 2^31 or more"),
    ('extends = "cpu"\nbudgets = { p90_vs = 1 }', "no such key"),
    ('extends = "cpu"\nbudgets = { p90_ms = 3, p99_ms = 2 }', "p90_ms: it is above p99_ms = 2"),
    (f'extends = "cpu"\nthreads = {"9" * 5000}', "not valid TOML: Exceeds the limit"),
    ("about = ", "not valid TOML"),
    ("about = " + "[" * 5000, "not valid TOML"),
    ('extends = "cpu"\nformat = "tflite"', "onnxruntime takes no .tflite"),
    ('extends = "android-litert"\nformat = "onnx"', "litert takes no .onnx"),
    ('extends = "android"', "no target named 'android'; did you mean 'android-"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_a_wrong_profile_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(Refusal, match=r"mine\.toml") as refusal:
        read_profile(str(tmp_path / "mine.toml"))
    assert said in str(refusal.value)


def test_a_profile_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b'about = "\xff"')
    with pytest.raises(Refusal, match=r"mine\.toml: not valid TOML: .*utf-8"):
        read_profile(str(tmp_path / "mine.toml"))


def test_an_unknown_target_is_answered_with_the_nearest() -> None:
    with pytest.raises(Refusal, match="did you mean 'cpu'"):
        read_profile("cpuu")


def test_a_profile_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="No such file"):
        read_profile(str(tmp_path / "none.toml"))
