"""The store under the worst that happens to it: kills, two runs at once, and errors halfway."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.store import Store, digest, digest_file, write_json

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


def reordered(value: Any) -> Any:
    """An equal value whose tables were filled the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(one) for one in value] if isinstance(value, list) else value


@given(values)
def test_equal_values_have_equal_digests(value: Any) -> None:
    assert digest(value) == digest(reordered(value)) == digest(json.loads(json.dumps(value)))


@given(values, values)
def test_different_values_have_different_digests(one: Any, two: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert (digest(one) == digest(two)) == same


@pytest.mark.parametrize(("one", "two"), [([1, 23], [12, 3]), ({"a": 1}, {"a": "1"}), ([[]], []), ("", None)])
def test_values_that_look_alike_have_different_digests(one: Any, two: Any) -> None:
    assert digest(one) != digest(two)


def test_a_digest_is_the_same_in_every_process() -> None:
    value = {"b": [1, 2.5, None], "a": {"ü": True}}
    code = "import json, sys; from pipeline.engine.store import digest; print(digest(json.load(sys.stdin)))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(value),
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert runs == [digest(value)] * 2


@pytest.mark.parametrize("size", [0, 1, 2**18, 2**18 + 1])
def test_a_files_digest_is_of_its_bytes(size: int, tmp_path: Path) -> None:
    content = bytes(index % 251 for index in range(size))
    (tmp_path / "file").write_bytes(content)
    found = digest_file(tmp_path / "file")
    assert hashlib.sha256(content).hexdigest().startswith(found) and len(found) >= 16


def test_write_json_leaves_the_old_file_whole_when_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    write_json(path, {"b": 1, "a": [None, 2.5]})
    assert json.loads(path.read_text()) == {"a": [None, 2.5], "b": 1}
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(ValueError, match="ircular"):
        write_json(path, ring)
    assert json.loads(path.read_text()) == {"a": [None, 2.5], "b": 1}
    assert list(tmp_path.iterdir()) == [path]


def files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_an_artifact_appears_whole_at_the_end(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.make("key") as place:
        assert place is not None and list(place.out.iterdir()) == list(place.scratch.iterdir()) == []
        (place.out / "a").write_text("1")
        (place.scratch / "half").write_text("2")
        assert not store.has("key") and list(store.objects.iterdir()) == []
    assert store.has("key")
    assert files(store.objects) == {"key/a": "1"}
    assert [path for path in store.work.iterdir() if path.is_dir()] == []


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for turn in ("first", "second"):
        with store.make("key") as place:
            if place is not None:
                (place.out / "turn").write_text(turn)
        assert (place is None) == (turn == "second")
    assert files(store.objects) == {"key/turn": "first"}


def test_an_error_halfway_leaves_no_artifact_and_frees_the_key(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.make("key") as place:
        assert place is not None
        (place.out / "broken").write_text("half")
        (place.scratch / "progress").write_text("3 epochs")
        raise RuntimeError
    assert list(store.objects.iterdir()) == []
    with store.make("key") as place:
        assert place is not None and list(place.out.iterdir()) == []
        assert files(place.scratch) == {"progress": "3 epochs"}
    assert files(store.objects) == {} and store.has("key")


# Says where it is and goes on when told to, so that no test has to guess how long anything takes.
MAKER = """
import sys
from pathlib import Path
from pipeline.engine.store import Store

def say(word):
    print(word, flush=True)

with Store(Path(sys.argv[1])).make("key", waiting=lambda: say("waiting")) as place:
    if place is not None:
        (place.out / "made").write_text(sys.argv[2])
        (place.scratch / "progress").write_text(sys.argv[2])
        say("inside")
        sys.stdin.readline()
say("none" if place is None else "made")
"""


class Maker:
    """Another process that makes the same key."""

    def __init__(self, root: Path, name: str) -> None:
        command = [sys.executable, "-c", MAKER, str(root), name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@pytest.fixture
def makers(tmp_path: Path) -> Iterator[Callable[[str], Maker]]:
    started: list[Maker] = []

    def start(name: str) -> Maker:
        started.append(Maker(tmp_path, name))
        return started[-1]

    yield start
    for maker in started:
        maker.process.kill()
        maker.process.communicate()


def test_a_killed_maker_leaves_nothing_but_its_scratch(
    tmp_path: Path, makers: Callable[[str], Maker]
) -> None:
    victim, store = makers("victim"), Store(tmp_path)
    assert victim.hear() == "inside"
    os.kill(victim.process.pid, signal.SIGKILL)
    assert victim.process.wait() == -signal.SIGKILL
    assert list(store.objects.iterdir()) == []
    with store.make("key") as place:
        assert place is not None, "the lock went with its process"
        assert list(place.out.iterdir()) == []
        assert files(place.scratch) == {"progress": "victim"}
        (place.out / "made").write_text("successor")
    assert files(store.objects) == {"key/made": "successor"}


def test_two_at_once_make_one_artifact(tmp_path: Path, makers: Callable[[str], Maker]) -> None:
    first = makers("first")
    assert first.hear() == "inside"
    second = makers("second")
    assert second.hear() == "waiting"
    first.go_on()
    assert (first.hear(), second.hear()) == ("made", "none")
    assert files(Store(tmp_path).objects) == {"key/made": "first"}


def test_who_waits_for_one_that_is_killed_takes_over(tmp_path: Path, makers: Callable[[str], Maker]) -> None:
    first = makers("first")
    assert first.hear() == "inside"
    second = makers("second")
    assert second.hear() == "waiting"
    first.process.kill()
    assert second.hear() == "inside"
    second.go_on()
    assert second.hear() == "made"
    assert files(Store(tmp_path).objects) == {"key/made": "second"}


OLD, NEW, OLD_HALF, NEW_HALF = (f"teach-{digest(name)}" for name in ("old", "new", "half old", "half new"))


def filled(root: Path) -> Store:
    """Two artifacts, and the unfinished work of two more."""
    store = Store(root)
    for key in (OLD, NEW):
        with store.make(key):
            pass
    for key in (OLD_HALF, NEW_HALF):
        with pytest.raises(RuntimeError), store.make(key):
            raise RuntimeError
    return store


def folders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


def test_keep_only_drops_the_rest_and_says_what_went(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert set(store.keep_only({NEW, NEW_HALF, "never-made"})) == {OLD, OLD_HALF}
    assert (folders(store.objects), folders(store.work)) == ({NEW}, {NEW_HALF})
    assert store.keep_only({NEW, NEW_HALF}) == []


def test_keep_only_of_a_store_that_was_never_used_drops_nothing(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").keep_only(set()) == []


def test_keep_only_leaves_alone_what_another_run_is_making(
    tmp_path: Path, makers: Callable[[str], Maker]
) -> None:
    store = filled(tmp_path)
    busy = makers("busy")
    assert busy.hear() == "inside"
    assert set(store.keep_only(set())) == {NEW, NEW_HALF, OLD, OLD_HALF}
    busy.go_on()
    assert busy.hear() == "made"
    assert files(store.objects) == {"key/made": "busy"}


def test_a_kill_while_dropping_leaves_an_artifact_whole_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    with store.make(OLD) as place:
        assert place is not None
        (place.out / "a").write_text("1")
        (place.out / "b").write_text("2")

    def killed_halfway(path: Path, **_: Any) -> None:
        next(one for one in sorted(path.rglob("*")) if one.is_file()).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.engine.store.shutil.rmtree", killed_halfway)
    with pytest.raises(KeyboardInterrupt):
        store.keep_only(set())
    assert not store.has(OLD) or files(store.path(OLD)) == {"a": "1", "b": "2"}


def test_folders_that_no_store_made_are_left_alone(tmp_path: Path) -> None:
    for name in ("objects/thesis", "work/photos", "objects/teach-0123"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "mine.txt").write_text("years of it")
    assert Store(tmp_path).keep_only(set()) == []
    assert (tmp_path / "work" / "photos" / "mine.txt").exists() and (tmp_path / "objects" / "thesis").exists()
