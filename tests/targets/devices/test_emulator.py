"""Arm by emulation: the real aarch64 runtime answers here, behind ssh too, and no time of it becomes a latency."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.board import SSHD, Board
from targets.bundle.agreement_matrix import Proof, agreement_matrix
from targets.devices import emulator
from targets.devices.address import check_device
from targets.devices.connect import open_device
from targets.errors import PASSED, UNDECIDED, Refusal, Unmeasurable
from targets.gate.gate import Given, gate
from targets.limits import read_budgets
from targets.measuring.bench import Bench
from targets.measuring.candidate import Candidate
from targets.runner.environment import emulated
from targets.spec.contract import Contract
from targets.spec.profile import read_profile
from targets.tasks import TASKS

HERE = emulator.home()
Network = Callable[[str], Path]
installed = pytest.mark.skipif(not HERE.exists(), reason="not installed; retort emulator install")
BUDGETS = read_budgets(["accuracy=0.1", "agreement=20", "p99_ms=1000", "p50_vs_reference=9"])


def judged(network: Network, photos: Path, out: Path, device: str, accept: bool = False) -> dict[str, Any]:
    given = Given(network("nchw-float32"), photos, read_profile("rpi5"), device)
    return gate(given, BUDGETS, out, accept=accept)


def check(table: dict[str, Any], status: int) -> dict[str, Any]:
    (target,) = table["targets"]
    outcomes = {line["budget"]: line["outcome"] for line in target["lines"]}
    assert outcomes == {
        "accuracy": "FAIL" if outcomes["accuracy"] == "FAIL" else "PASS",
        "agreement": "PASS",
        "p99_ms": "NOT MEASURED",
        "p50_vs_reference": "NOT MEASURED",
    }
    assert table["status"] == status
    assert "emulated" in target["reason"]
    assert target["environment"]["machine"] == "aarch64" and target["environment"]["emulated"]
    candidate = target["candidates"]["candidate"]
    assert "latency_ms" not in candidate and candidate["agreement"]["same"]["value"] == 1.0
    assert candidate["agreement"]["largest"] < 1e-4
    return target  # type: ignore[no-any-return]


@installed
@pytest.mark.parametrize(("cpu", "dot"), [("cortex-a72", False), ("cortex-a76", True)])
def test_an_emulated_processor_answers_and_is_not_timed(
    cpu: str, dot: bool, network: Network, photos: Path, tmp_path: Path
) -> None:
    table = judged(network, photos, tmp_path / "a", f"emulator:{cpu}")
    target = check(table, UNDECIDED)
    assert ("asimddp" in target["environment"]["cpu"]["features"]) == dot
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert "NOT MEASURED" in page and "Agreement" in page


@installed
def test_what_is_not_measured_passes_only_where_that_was_said(
    network: Network, photos: Path, tmp_path: Path
) -> None:
    check(judged(network, photos, tmp_path / "a", "emulator:neoverse-n2", accept=True), PASSED)


@installed
def test_nothing_can_be_timed_on_it_by_another_way_either(
    network: Network, small_images: np.ndarray, tmp_path: Path
) -> None:
    """As the pruning does, which asks the bench itself."""
    np.save(tmp_path / "some.npy", small_images)
    contract = Contract("nchw-float32", (8, 8), ("a", "b"))
    with open_device("emulator:cortex-a72") as device:
        bench = Bench(device, read_profile("rpi4"), contract, tmp_path / "some.npy", tmp_path)
        one = Candidate("one", network("nchw-float32"), "float32")
        bench.build(one)
        for timing in (lambda: bench.time([one], 1.0, 0), lambda: bench.sustain([one], 1.0)):
            with pytest.raises(Unmeasurable, match="rpi4: the processor is emulated"):
                timing()


def binfmt() -> Path:
    return Path("/proc/sys/fs/binfmt_misc")


@contextmanager
def arm_programs() -> Iterator[None]:
    """The kernel starts aarch64 programs by QEMU for as long as the block lasts."""
    name = f"retort-{os.getpid()}"
    if not (binfmt() / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", binfmt()], check=True)
    magic = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    mask = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
    (binfmt() / "register").write_text(f":{name}:M::{magic}:{mask}:{HERE / 'qemu-aarch64'}:F")
    try:
        yield
    finally:
        (binfmt() / name).write_text("-1")


def may_mount() -> bool:
    return os.getuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@installed
@pytest.mark.skipif(SSHD is None, reason="no sshd; apt-get install openssh-server")
@pytest.mark.skipif(not may_mount(), reason="only root may make another root and mount in it")
def test_a_machine_behind_ssh_that_is_emulated_is_found_out(
    network: Network, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An sshd whose sessions live in the arm64 root: its shell, its Python, its runtime."""
    board = Board(tmp_path)
    with tempfile.TemporaryDirectory(dir=HERE.parent, prefix="machine-") as folder:
        root = Path(
            shutil.copytree(HERE / "root", Path(folder) / "root", symlinks=True, copy_function=os.link)
        )
        for name in ("proc", "dev", "tmp"):
            (root / name).mkdir()
        chroot = shutil.which("chroot", path=f"{os.environ['PATH']}:/usr/sbin")
        variables = "export PATH=/usr/bin HOME=/tmp TMPDIR=/tmp PYTHONPATH=/site QEMU_CPU=cortex-a76"
        mounts = (
            f"mount --bind /proc {root}/proc; mount --bind /dev {root}/dev; mount -t tmpfs none {root}/tmp"
        )
        inside = f'{mounts}; {variables}; exec {chroot} {root} /bin/sh -c "$SSH_ORIGINAL_COMMAND"'
        monkeypatch.setattr("targets.measuring.measure.open_device", board.device)
        with arm_programs(), board.running(first=f"exec unshare -m /bin/sh -c '{inside}'"):
            check(judged(network, photos, tmp_path / "out", "ssh://board"), UNDECIDED)
        assert not any((root / "tmp").iterdir())


def test_the_certificate_compares_every_two_targets_that_answered() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(50, 4)).astype(np.float32)
    other = logits.copy()
    other[7] = np.roll(other[7], 1)
    devices = {"rpi5": "emulator:x"}
    answers = {"cpu": logits, "rpi5": other, "openvino": logits}
    proofs = [
        Proof(
            {"target": name, "device": devices.get(name, "local")}, {"int8": found, "float": found}, ["int8"]
        )
        for name, found in answers.items()
    ]
    rows = agreement_matrix(
        [*proofs, Proof({"target": "jetson", "device": "ssh://x"}, {})], TASKS["classification"]
    )
    assert [row["targets"] for row in rows] == [
        ["cpu", "rpi5 (emulator:x)"],
        ["cpu", "openvino"],
        ["rpi5 (emulator:x)", "openvino"],
    ]
    assert [row["apart"] for row in rows] == [[7], [], [7]]
    assert rows[0]["same"]["value"] == 0.98 and rows[1]["largest"] == 0.0
    assert rows[0]["largest"] == pytest.approx(float(np.abs(logits - other).max()))


def test_this_machine_is_a_real_one() -> None:
    assert not emulated()


def test_an_unknown_processor_is_refused_with_the_nearest() -> None:
    with pytest.raises(Refusal, match="did you mean 'cortex-a76'"):
        check_device("emulator:cortex-a78")
    with pytest.raises(
        Refusal, match=r"known: local, ssh://user@host:port, adb://serial, emulator:cortex-a72\|cortex-a76"
    ):
        check_device("emulator")


def test_without_an_installation_it_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_CACHE", str(tmp_path))
    with (
        pytest.raises(Unmeasurable, match="not installed; retort emulator install"),
        open_device("emulator:cortex-a72"),
    ):
        pass


@pytest.mark.parametrize(
    ("programs", "says"),
    [
        ({}, "no apt-get here; it takes a Debian"),
        ({"apt-get": "exit 0", "dpkg-deb": ""}, "apt knows no Debian mirror here; run apt-get update"),
        (
            {"apt-get": "echo lists are broken >&2; exit 100", "dpkg-deb": ""},
            "apt-get failed: lists are broken",
        ),
    ],
    ids=["no apt", "no mirror", "broken apt"],
)
def test_an_installation_that_fails_leaves_nothing(
    programs: dict[str, str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    for name, script in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "keyring").touch()
    monkeypatch.setattr(emulator, "KEYRING", tmp_path / "keyring")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("RETORT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(Unmeasurable, match=says):
        emulator.install()
    assert list((tmp_path / "cache" / "retort").iterdir()) == []


def test_wheels_are_fetched_by_digest_and_what_has_none_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = emulator.PINNED.read_text().splitlines()
    exact = [line.split()[0] for line in lines if "==" in line]
    wanted = {name: number for name, number in (one.split("==") for one in exact) if name != "numpy"}
    assert emulator.chosen(wanted, tmp_path / "list") == ["--require-hashes", "-r", str(tmp_path / "list")]
    listed = (tmp_path / "list").read_text()
    assert [line.split()[0] for line in listed.splitlines() if "==" in line] == [
        one for one in exact if "numpy" not in one
    ]
    assert listed.count("--hash=sha256:") >= len(wanted) and not capsys.readouterr().err
    assert emulator.chosen({"numpy": "1.0"}, tmp_path / "none") == ["numpy==1.0"]
    assert "no digest of numpy==1.0 is known" in capsys.readouterr().err


@installed
def test_an_installed_emulator_is_found_again() -> None:
    assert emulator.install() == HERE
    assert {path.name for path in HERE.iterdir()} == {"qemu-aarch64", "root"}
