"""A backend is one object: one that the package does not know measures a candidate to a verdict."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import SUPPORT
from targets.diagnose.layers import layers
from targets.errors import PASSED, Refusal, Unmeasurable
from targets.gate.gate import Given, gate
from targets.limits import read_budgets
from targets.runner import backends
from targets.spec.profile import Profile, read_profile

# Of the profile it reads how many classes there are, in a key that it says it needs.
PROFILE = 'about = "a toy"\nbackend = "toy"\nseconds = 4.0\nchannel_multiple = 5\n'


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Profile]:
    monkeypatch.setattr(backends, "__path__", [*backends.__path__])
    backends.register("toy", str(SUPPORT / "stubs" / "toy_backend.py"))
    (tmp_path / "own.toml").write_text(PROFILE)
    yield read_profile(str(tmp_path / "own.toml"))
    del backends.BACKENDS["toy"], backends.OWN["toy"]
    del sys.modules["targets.runner.backends.toy_backend"]


def test_a_file_and_a_profile_are_all_that_a_new_backend_needs(
    profile: Profile, network: Callable[[str], Path], photos: Path, tmp_path: Path
) -> None:
    """Ten photos of five kinds, and it answers each with the last kind: two are right."""
    budgets = read_budgets(["accuracy=2", "p99_ms=1000", "size_mb=1"])
    given = Given(network("nchw-float32"), photos, profile)
    table = gate(given, budgets, tmp_path / "out")
    (target,) = table["targets"]
    outcomes = {line["budget"]: line["outcome"] for line in target["lines"]}
    assert outcomes == dict.fromkeys(("accuracy", "p99_ms", "size_mb"), "PASS") and table["status"] == PASSED
    (one,) = target["candidates"].values()
    assert one["accuracy"]["value"] == 0.2 and one["facts"]["operators"] == {"Last": 1}
    assert one["agreement"]["largest"] > 0, "ONNX Runtime's own answers here are others"
    with pytest.raises(Unmeasurable, match="shows no tensors on the way"):
        layers(given)


def test_what_it_says_is_missing_is_told(
    profile: Profile,
    network: Callable[[str], Path],
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOY_MISSING", "no toys here; pip install toys")
    with pytest.raises(Unmeasurable, match="no toys here; pip install toys"):
        gate(Given(network("nchw-float32"), photos, profile), read_budgets(["accuracy=2"]), tmp_path / "out")


def test_it_refuses_what_it_does_not_take(profile: Profile, tmp_path: Path) -> None:
    (tmp_path / "lite.toml").write_text(PROFILE + 'format = "tflite"\n')
    with pytest.raises(Refusal, match=r"toy takes no \.tflite"):
        read_profile(str(tmp_path / "lite.toml"))
    (tmp_path / "typo.toml").write_text(PROFILE.replace('"toy"', '"toi"'))
    with pytest.raises(Refusal, match="no backend named 'toi'; did you mean 'toy'"):
        read_profile(str(tmp_path / "typo.toml"))
