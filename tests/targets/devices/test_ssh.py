"""Devices behind ssh, over a real sshd on this machine: the whole way, every refusal, and what stays behind."""

from __future__ import annotations

import ast
import os
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.board import NASTY, SSHD, USER, Board, new_key
from targets.devices import connect, ssh
from targets.devices.address import check_device
from targets.devices.base import Device, Local
from targets.devices.connect import open_device
from targets.devices.ssh import Ssh
from targets.diagnose import doctor
from targets.errors import PASSED, Refusal, Unmeasurable
from targets.measuring.bench import Bench
from targets.measuring.candidate import Candidate
from targets.spec.contract import Contract
from targets.spec.profile import Profile

LOOK = {"do": "look", "backend": "onnxruntime"}
Network = Callable[[str], Path]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    if SSHD is None:
        pytest.skip("sshd is not installed (Debian: openssh-server)")
    monkeypatch.setattr(ssh, "LOCK", str(tmp_path / "board" / "retort.lock"))
    (tmp_path / "board").mkdir()
    return Board(tmp_path / "board")


def results(device: Device, model: Path, images: Path, work: Path) -> list[Any]:
    """A candidate's answers, its facts and how many blocks of times."""
    profile = Profile(name="board", about="", backend="onnxruntime", rewrite="none", batch=3)
    candidate = Candidate(NASTY, model, "float32")
    work.mkdir()
    bench = Bench(device, profile, Contract("nchw-float32", (8, 8), ()), images, work)
    facts, (answers, memory) = bench.build(candidate), bench.ask(candidate)
    blocks = bench.time([candidate], 0.0, 1)["blocks"][NASTY]
    assert (memory or 1) > 0 and all(second > 0 for block in blocks for second in block)
    return [answers.tolist(), facts, len(blocks)]


def test_a_bench_gives_what_it_gives_here_and_leaves_nothing(
    board: Board, monkeypatch: pytest.MonkeyPatch, small_network: Network, small_images: NDArray[np.uint8]
) -> None:
    """With a profile that greets everybody, beats between all answers, and names that a shell would act on."""
    monkeypatch.setattr(ssh, "BEAT_S", 0.001)
    model, images, local = small_network("nchw-float32"), board.folder / "images.npy", board.folder / "local"
    np.save(images, small_images)
    local.mkdir()
    here = results(Local(local), model, images, board.folder / "here")
    with board.running():
        with board.device(f"ssh://{USER}@127.0.0.1:{board.port}") as device:
            there = results(device, model, images, board.folder / "there")
            (folder,) = board.temporary.iterdir()
            names = {path.name for path in folder.iterdir()}
            assert folder.stat().st_mode & 0o777 == 0o700
        assert board.left() == []
    assert there == here
    assert {f"{NASTY}.onnx", f"{NASTY}.npy", "images.npy", "runner"} <= names
    names |= {path.name for path in (board.folder / "there").iterdir()}
    assert not [name for name in names if name.endswith(".part")]


def test_a_runner_that_fails_says_the_same_there_as_here(board: Board, tmp_path: Path) -> None:
    job = {**LOOK, "do": "build", "model": "none.onnx", "engine": "e", "options": {"threads": 1}}
    with pytest.raises(Unmeasurable, match=r"failed at 'build' with onnxruntime: \S") as here:
        Local(tmp_path).run(job)
    with board.running():
        assert board.refusal(use=lambda device: device.run(job)) == str(here.value)


def test_a_host_key_that_is_not_the_known_one_is_refused(board: Board) -> None:
    """Also where the user's configuration would let it pass, and nothing is learnt from it."""
    with board.running():
        board.trust("")
        line = board.refusal(f"ssh://127.0.0.1:{board.port}")
        assert "not known" in line and line.endswith(f"accept it once: ssh -p {board.port} 127.0.0.1")
        assert (board.folder / "known").read_text() == ""
        board.trust(new_key(board.folder / "other"))
        line = board.refusal()
        assert "has changed" in line and f"{board.folder / 'known'}:1" in line and line.endswith("ssh board")


def test_no_way_in_is_one_line(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    with board.running(PATH=str(board.home)):
        assert "no python3 there" in board.refusal()
        (board.folder / "authorized").write_text(new_key(board.folder / "stranger"))
        assert re.match(r"ssh://board: no login \(.*publickey.*ssh-copy-id", board.refusal())
    assert re.match("ssh://board: no answer .*Connection refused", board.refusal())
    with pytest.raises(Unmeasurable, match="refused"), open_device(f"ssh://127.0.0.1:{board.port}"):
        pass  # by the user's own configuration
    assert "no answer (ssh: Could not resolve" in board.refusal("ssh://nobody.invalid")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        board.port = silent.getsockname()[1]
        monkeypatch.setattr(ssh, "NO_WAITING", ["-oConnectTimeout=1"])
        assert re.match("ssh://board: no answer .*timed out", board.refusal())
    monkeypatch.setenv("PATH", str(board.home))
    assert "install OpenSSH" in board.refusal()


PYTHONS = {
    "sys.version_info, sys.version = (3, 7, 3), '3.7.3 (old)'": "3.8 or newer is needed there, this is 3.7.3",
    "sys.modules['numpy'] = None": "numpy is missing there; python3 -m pip install numpy",
    "sys.modules['onnxruntime'] = None": "pip install onnxruntime",
}


@pytest.mark.parametrize("change", PYTHONS)
def test_no_python_that_will_do_is_one_line(board: Board, change: str) -> None:
    (board.folder / "sitecustomize.py").write_text(f"import sys\n{change}\n")
    with board.running(PYTHONPATH=str(board.folder)):
        assert PYTHONS[change] in board.refusal(use=lambda device: device.run(LOOK))


def test_a_disk_that_takes_no_more_is_one_line_that_names_the_folder(board: Board) -> None:
    """The system refuses to write on, as on a full disk, which ulimit stands for."""
    (board.folder / "big").write_bytes(bytes(1 << 22))
    with board.running("ulimit -f 40"):
        line = board.refusal(use=lambda device: device.put(board.folder / "big", "big"))
    assert re.fullmatch(r"ssh://board: in .*/retort-\w+: File too large", line)


def test_a_device_in_use_is_refused_with_its_user(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    with board.running():
        lock = Path(ssh.LOCK)
        with board.device():
            monkeypatch.setattr(ssh, "PATIENCE_S", 0.1)
            holder = lock.read_text()
            with pytest.raises(Unmeasurable) as caught, board.device():
                pass
        assert holder.startswith(f"{USER}@{socket.gethostname()}, process ")
        assert f"in use by {holder}; " in str(caught.value) and "\n" not in str(caught.value)
        assert board.left() == []
        lock.write_text("somebody who died long ago")
        with board.device():
            assert lock.read_text().startswith(f"{USER}@")
        lock.symlink_to(board.home / "precious")
        with pytest.raises(Unmeasurable, match=r"retort\.lock: Too many levels of symbolic links"):
            board.device().__enter__()
        assert board.left() == [lock.name]


@pytest.mark.parametrize("end", ["there", "here", "silent"])
def test_a_connection_that_drops_in_a_job_ends_it_and_the_next_run_goes_on(
    board: Board, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that never answers: it opens a pipe, and the pipe ends when the job does."""
    monkeypatch.setattr(ssh, "NO_WAITING", ["-oServerAliveInterval=1", "-oServerAliveCountMax=2"])
    stub, pipe = board.folder / "onnxruntime.py", board.folder / "pipe"
    stub.write_text(
        f"import os, signal\nos.write(os.open('{pipe}', os.O_WRONLY), b'working')\nsignal.pause()\n"
    )
    os.mkfifo(pipe)
    with board.running(PYTHONPATH=str(board.folder)), ThreadPoolExecutor(1) as thread:
        with board.device() as device:
            job = thread.submit(device.run, LOOK)
            with pipe.open("rb", buffering=0) as runner:
                assert runner.read(7) == b"working"
                keeper = int(Path(ssh.LOCK).read_text().partition("process ")[2].split()[0])
                session = int(Path(f"/proc/{keeper}/stat").read_text().rpartition(")")[2].split()[1])
                assert Path(f"/proc/{session}/comm").read_text().startswith("sshd")
                os.kill(device.ssh.pid if end == "here" else session, SIGSTOP if end == "silent" else SIGKILL)
                error = str(job.exception())
                if end == "silent":
                    os.kill(session, SIGKILL)
                assert runner.read() == b""  # the job is dead
        assert re.match(r"ssh://board: the connection was lost \(.*\); run it again", error)
        stub.unlink()
        with board.device() as again:
            assert "after" in again.run(LOOK)
            assert len(board.left()) == 2  # its folder and its lock
        assert board.left() == []


NO_ADDRESS = """ssh:// ssh://-oProxyCommand=x ssh://-l@host ssh://user@-host ssh://user:secret@host ssh://host:
ssh://host:0 ssh://host:65536 ssh://host/path ssh://$(x) ssh://a`x`@host ssh://[host] telnet://host Local"""


@pytest.mark.parametrize("name", [*re.split(r"\s", NO_ADDRESS), "ssh://ho st", "ssh://host\n", ""])
def test_what_is_no_address_is_refused_and_no_password_is_repeated(name: str) -> None:
    with pytest.raises(Refusal, match="ssh://user@host:port") as caught:
        check_device(name)
    assert caught.value.status == 2 and "secret" not in str(caught.value)


def test_an_address_becomes_words_of_ssh() -> None:
    given = {
        "ssh://board": "-- board",
        "ssh://board:2222": "-p 2222 -- board",
        "ssh://pi@board": "-l pi -- board",
        "ssh://pi@[fe80::1%eth0]:2222": "-p 2222 -l pi -- fe80::1%eth0",
    }
    for name, words in given.items():
        check_device(name)
        command = Ssh(name).command
        assert " ".join(command[:-1]).endswith(f" {words}")
        assert {"-oBatchMode=yes", "-oStrictHostKeyChecking=yes"} <= {*command}


def test_the_far_end_is_python_3_8() -> None:
    ast.parse(ssh.KEEPER, feature_version=(3, 8))


def test_the_doctor_examines_a_board(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "Ssh", board.device)
    monkeypatch.setattr(doctor, "BACKENDS", {"onnxruntime": "ort"})
    with board.running():
        examined = doctor.examine_all("ssh://board")
        assert board.left() == []
    findings = {one.name: one for one in examined.findings}
    assert findings["onnxruntime"].ok is True, findings
    assert examined.status == PASSED and len(examined.known["onnxruntime"]) > 20
