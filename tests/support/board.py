"""A device behind ssh for tests: a real sshd on this machine, with a home and a temporary folder of its own."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from targets.devices.ssh import Ssh
from targets.errors import Unmeasurable

SSHD = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
USER, NASTY = getpass.getuser(), 'it\'s a $(touch x) `touch y` "box"; touch z *'

SERVER = """HostKey {0}/host
AuthorizedKeysFile {0}/authorized
ForceCommand exec /bin/sh {0}/enter
ListenAddress 127.0.0.1:{1}
UsePAM no
StrictModes no
PidFile none
"""
CLIENT = f"""Host board
  HostName 127.0.0.1
  Port {{1}}
Host *
  User {USER}
  IdentityFile {{0}}/user
  IdentitiesOnly yes
  UserKnownHostsFile {{0}}/known
  GlobalKnownHostsFile none
  StrictHostKeyChecking no
"""
# What every session of the board runs in: a profile that greets everybody, and nothing of this machine's variables.
ENTER = """printf 'Welcome to the board! '
cd {0}/home
{1}
exec env -i {2} /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""


def new_key(path: Path) -> str:
    """Make a key pair; its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text().strip()


class Board:
    """A device: an sshd of its own on this machine, its home and its temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.temporary = folder, folder / "home", folder / NASTY
        self.home.mkdir()
        self.temporary.mkdir()
        self.host_key, self.port = new_key(folder / "host"), 0
        (folder / "authorized").write_text(new_key(folder / "user"))

    @contextmanager
    def running(self, first: str = "", **more: str) -> Iterator[None]:
        """``first`` is done at the start of each session, ``more`` are variables of it."""
        variables = {"HOME": self.home, "TMPDIR": self.temporary, "PATH": Path(sys.executable).parent, **more}
        words = shlex.join(f"{name}={value}" for name, value in variables.items())
        (self.folder / "enter").write_text(ENTER.format(self.folder, first, words))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (self.folder / "server").write_text(SERVER.format(self.folder, self.port))
        self.trust(self.host_key)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [str(SSHD), "-D", "-e", "-f", str(self.folder / "server")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
            try:
                assert daemon.stderr and "listening" in (said := daemon.stderr.readline()), said
                yield
            finally:
                daemon.terminate()

    def trust(self, host_key: str) -> None:
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {host_key}\n" if host_key else "")

    def device(self, name: str = "ssh://board") -> Ssh:
        (self.folder / "client").write_text(CLIENT.format(self.folder, self.port))
        return Ssh(name, self.folder / "client")

    def left(self) -> list[str]:
        """What is on the device that was not there."""
        places = self.temporary.iterdir(), self.home.iterdir(), self.folder.glob("*.lock")
        return [path.name for place in places for path in place]

    def refusal(self, name: str = "ssh://board", use: Callable[[Ssh], object] = str) -> str:
        """The line of a device that cannot be had, or not be used so; nothing stays there."""
        with pytest.raises(Unmeasurable) as caught, self.device(name) as device:
            use(device)
        assert "\n" not in str(caught.value) and self.left() == []
        return str(caught.value)
