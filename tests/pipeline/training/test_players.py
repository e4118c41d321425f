"""Trainings of several players: killed anywhere they end as if left alone, and each is validated and kept."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training is torch's")

from pipeline.data.decoded import Decoded
from pipeline.training import loop
from support import tiny, toys
from support.ranked import furthest, launch, left, write_wanted
from support.tiny import one_thread  # noqa: F401  (for every test here)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"), classes=tiny.CLASSES)


@pytest.mark.parametrize("name", ["mutual", "generated"])
def test_several_players_killed_outright_end_as_if_left_alone(name: str, tmp_path: Path) -> None:
    """By kill -9, in the third epoch of three, two steps in; four steps an epoch."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    write_wanted(whole, scheme=name, epochs=3)
    assert launch(whole).returncode == 0
    write_wanted(killed, scheme=name, epochs=3, die=10)
    assert launch(killed).returncode == -signal.SIGKILL
    assert not (killed / "rank 0.pt").exists()
    assert launch(killed).returncode == 0
    (expected,), (found,) = left(whole), left(killed)
    assert furthest(found, expected) == 0 and found["history"] == expected["history"]
    mine, theirs = tiny.kept(killed), tiny.kept(whole)
    assert mine.keys() == theirs.keys()
    assert [key for key, value in mine.items() if not np.array_equal(value, theirs[key])] == []
    assert any("optimiser" in key for key in mine)
    assert ("/scheme/before" in mine) == (name == "generated")


def test_several_players_train_in_two_processes_and_through_a_death(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    write_wanted(whole, scheme="generated", epochs=2)
    write_wanted(killed, scheme="generated", epochs=2, die=6)
    for folder in (whole, killed):
        done = launch(folder, 2, restarts=1)
        assert done.returncode == 0, done.stderr[-2000:]
    assert (killed / "died").exists()
    (first, second), (again, _) = left(whole, 2), left(killed, 2)
    assert furthest(first, second) == 0 == furthest(first, again)
    assert first["history"] == again["history"] and first["history"]["ranks"] == 2


def test_each_player_is_left_as_it_was_at_its_best(data: Decoded, tmp_path: Path) -> None:
    scheme = toys.Mutual()
    history = loop.fit(scheme, data, tiny.training(epochs=6), tmp_path, "here")
    assert history.loss[-1] < 0.8 * history.loss[0]
    courses = {"student": history, **history.others}
    assert courses.keys() == scheme.players.keys()
    for name, player in scheme.players.items():
        course = courses[name]
        assert len(course.validation) == 6 and not player.network.training
        best = [course.start, *course.validation][course.best_epoch + 1]
        assert loop.validation_score(player.network, data) == best == max(course.start, *course.validation)
    assert history.validation != history.others["peer"].validation


def test_a_student_learns_from_a_generator_alone_which_is_left_as_it_was_last(
    data: Decoded, tmp_path: Path
) -> None:
    scheme, noise = toys.Generated(), torch.randn(64, toys.NOISE, dtype=torch.float64)
    with torch.no_grad():
        images = scheme.generator(noise)
        before = scheme.apart(images)
    history = loop.fit(scheme, data, tiny.training(epochs=12), tmp_path, "here")
    assert history.others == {} and len(history.validation) == 12
    players = torch.load(tmp_path / "here.pt", weights_only=True)["players"]
    scheme.student.load_state_dict(players["student"]["modules"][0])
    with torch.no_grad():
        assert scheme.apart(images) < 0.6 * before
    assert tiny.same(tiny.state(scheme.generator), players["generator"]["modules"][0]) == []
