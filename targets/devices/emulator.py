"""A processor that is not here, emulated: the real aarch64 runtime answers, and no time of it is a latency.

QEMU's user mode runs the programs of a small arm64 Debian that lies in a folder of the user's cache; the host's own
packages are not touched. Which int8 kernels ONNX Runtime picks there depends on the emulated processor.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from targets.devices.base import QUIET, Local
from targets.errors import Unmeasurable
from targets.progress import Bar, say
from targets.runner.files import cache_folder

SUITE, PYTHON = "trixie", "3.13"
# With a shell, so that the folder can also stand for a whole machine: behind ssh, after a chroot.
PACKAGES = ("dash", "python3-minimal", "libpython3-stdlib", "libstdc++6", "qemu-user:amd64")
WHEELS = ("onnxruntime", "numpy", "ai-edge-litert")
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
PINNED = Path(__file__).with_name("emulator.txt")  # by make requirements
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
APT = """
Dir::Etc::sourcelist "{0}/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "{0}";
Dir::State::status "{0}/status";
Dir::Cache "{0}/cache";
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; "amd64"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
"""


def home() -> Path:
    """The emulator's folder: one for each set of versions, so that an upgrade installs anew."""
    return Path(cache_folder()) / "-".join([f"emulator-{SUITE}", *versions().values()])


def versions() -> dict[str, str]:
    """Of the runtimes that are installed here, and go there too."""
    found = {}
    for name in WHEELS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class Emulated(Local):
    """``emulator:CPU``: this machine's runner, run by the emulated processor's Python."""

    def __init__(self, folder: Path, cpu: str) -> None:
        super().__init__(folder)
        place = home()
        if not (place / "root").exists():
            raise Unmeasurable(f"emulator:{cpu}: not installed; retort emulator install")
        self.command = command(place, cpu)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), **QUIET}


def command(place: Path, cpu: str) -> list[str]:
    """How the emulated Python is started, with the runtime on its path."""
    root = place / "root"
    paths = ["-E", f"PYTHONHOME={root}/usr", "-E", f"PYTHONPATH={root}/site"]
    return [
        str(place / "qemu-aarch64"),
        "-cpu",
        cpu,
        "-L",
        str(root),
        *paths,
        f"{root}/usr/bin/python{PYTHON}",
    ]


def install() -> Path:
    """Fetch what an emulated processor needs, by apt and pip, into the cache; the folder. Raises Unmeasurable."""
    place = home()
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=place.parent, prefix=".emulator-") as work,
        Bar("emulator", 4) as bar,
    ):
        made = Path(work) / "made"
        (made / "root").mkdir(parents=True)
        debs = fetched(Path(work) / "apt")
        bar.step("Debian's packages")
        unpack(debs, made)
        bar.step("unpacked")
        wheels(Path(work) / "wheels", made / "root" / "site")
        bar.step("the runtime")
        printed([*command(made, "cortex-a72"), "-c", "import onnxruntime"])
        bar.step("tried")
        try:
            made.rename(place)
        except OSError:  # another was faster
            assert place.exists()
    return place


def fetched(folder: Path) -> list[Path]:
    """The packages and what they need, fetched with a private apt: own lists, own cache, nothing installed."""
    for needed in ("apt-get", "dpkg-deb"):
        if shutil.which(needed) is None:
            raise Unmeasurable(f"emulator: no {needed} here; it takes a Debian, for instance in a container")
    if not KEYRING.exists():
        raise Unmeasurable(f"emulator: {KEYRING} is missing; apt-get install debian-archive-keyring")
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} {SUITE} main\n")
    (folder / "apt.conf").write_text(APT.format(folder))
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
    printed(["apt-get", "-qq", "update"], environment)
    options = ["-qq", "--yes", "--download-only", "--no-install-recommends"]
    printed(["apt-get", *options, "install", *PACKAGES], environment)
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def mirror() -> str:
    """Where this machine gets its own Debian packages from."""
    told = printed(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(REPO_URI)"])
    for line in told.splitlines():
        origin, codename, address = line.split("|")
        if origin == "Debian" and codename.isalpha():
            return address
    raise Unmeasurable(
        "emulator: apt knows no Debian mirror here; run apt-get update, or use a Debian container"
    )


def unpack(debs: Sequence[Path], made: Path) -> None:
    """The arm64 packages as a root, of the host's only QEMU's one program."""
    root = made / "root"
    (root / "usr" / "lib").mkdir(parents=True)
    for name in ("bin", "lib"):
        (root / name).symlink_to(f"usr/{name}")
    for deb in debs:
        if deb.name.startswith("qemu-user_"):
            with tempfile.TemporaryDirectory(dir=made) as other:
                printed(["dpkg-deb", "--extract", str(deb), other])
                shutil.copy(Path(other) / "usr" / "bin" / "qemu-aarch64", made / "qemu-aarch64")
        else:
            printed(["dpkg-deb", "--extract", str(deb), str(root)])


def wheels(folder: Path, site: Path) -> None:
    """The runtime's own wheels for aarch64, in the versions that are installed here."""
    platforms = [f"--platform={name}_aarch64" for name in PLATFORMS]
    python = [f"--python-version={PYTHON}", "--implementation=cp", f"--abi=cp{PYTHON.replace('.', '')}"]
    pip = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    printed([*pip, *python, *platforms, f"--dest={folder}", *chosen(versions(), folder.with_suffix(".txt"))])
    for wheel in folder.glob("*.whl"):
        shutil.unpack_archive(wheel, site, "zip")


def chosen(wanted: Mapping[str, str], to: Path) -> list[str]:
    """pip's arguments: the tested versions with their digests; other versions have none, and a line says so."""
    exact = [f"{name}=={number}" for name, number in wanted.items()]
    tested = {one.split()[0]: one for one in re.split(r"\n(?=\S)", PINNED.read_text(encoding="utf-8"))}
    if unknown := [one for one in exact if one not in tested]:
        say(
            f"emulator: no digest of {', '.join(unknown)} is known; the tested versions are in constraints.txt"
        )
        return exact
    to.write_text("\n".join(tested[one] for one in exact))
    return ["--require-hashes", "-r", str(to)]


def printed(words: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """What a program prints. Raises Unmeasurable with its last line where it fails."""
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise Unmeasurable(f"emulator: {Path(words[0]).name} failed: {last}")
    return done.stdout
