"""A device behind ssh: one connection of the system's OpenSSH, and one program at its far end.

That program, the Keeper, is sent first. It holds the device's lock, makes a folder, keeps files, runs jobs, and
clears everything away when its input ends, however that comes: at the end, after an error, when a connection
drops. No file's name ever meets a shell. Whom to trust is OpenSSH's to say, with its configuration and its keys.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import importlib.util
import inspect
import io
import itertools
import json
import os
import platform
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from targets.devices.address import read_address
from targets.devices.base import QUIET, RUNNER, RunnerFolder, printable
from targets.errors import Unmeasurable
from targets.runner.files import atomic_write

LOCK = "/tmp/retort.lock"
PATIENCE_S = 5.0  # with a lock: whose connection dropped is still clearing away
BEAT_S = 15.0
CLOSE_S = 20.0

# Before the user's configuration: nobody is asked, no host key passes unseen, no connection is waited for, and this
# one serves nothing and nobody else.
NO_QUESTIONS = ["-T", "-a", "-x", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oLogLevel=INFO"]
NO_WAITING = ["-oConnectTimeout=10", "-oServerAliveInterval=15", "-oServerAliveCountMax=3"]
NOTHING_ELSE = ["-oControlMaster=no", "-oClearAllForwardings=yes", "-oRemoteCommand=none"]

# What ssh says when it does not get through, and what it means; {line} is ssh's own, {once} a command.
CAUSES = {
    r"^Offending .* key": "its host key has changed and is refused ({line});"
    " if you know why, delete that line and accept the new key once: {once}",
    r"^No .* host key is known": "its host key is not known and is refused; look at it and accept it once: {once}",
    r"Permission denied \(": "no login ({line});"
    " give ssh a key that needs no question: ssh-copy-id, ssh-agent, IdentityFile in ~/.ssh/config",
    r"resolve hostname|refused|timed out|No route|unreachable": "no answer ({line}); are host and port right?",
    r"": "no connection ({line}); try: {once}",
}


class Keeper:
    """The far end: sent as source, so it is Python 3.8 with what KEEPER imports, and nothing else.

    It is asked in lines of JSON and answers in such lines. At the first error it ends, with a line on stderr.
    """

    def __init__(self, path: str, holder: str, patience: float, beat: float, quiet: dict[str, str]) -> None:
        self.path, self.holder, self.patience, self.beat, self.quiet = path, holder, patience, beat, quiet
        self.heard, self.told = sys.stdin.buffer, sys.stdout.buffer

    def work(self) -> None:
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, self.end)
        if importlib.util.find_spec("numpy") is None:
            sys.exit("numpy is missing there; python3 -m pip install numpy")
        os.environ["TMPDIR"] = place = os.environ.get("TMPDIR") or "/tmp"
        os.environ.update(self.quiet)
        does: dict[str, Callable[..., None]] = {"put": self.put, "get": self.get, "run": self.run}
        try:
            with self.locked() as self.lock, tempfile.TemporaryDirectory(prefix="retort-", dir=place) as own:
                os.chdir(own)
                os.environ["TMPDIR"] = own  # what a runtime leaves lying about goes with it
                self.tell({"retort": own})
                while self.listen():
                    asked = json.loads(self.heard.readline() or self.end())
                    does[asked.pop("do")](**asked)
        except OSError as error:
            sys.exit(f"in {error.filename or os.environ['TMPDIR']}: {error.strerror}")

    def end(self, *_: Any) -> NoReturn:
        sys.exit("it was ended there")

    def tell(self, answer: Any) -> None:
        self.told.write(json.dumps(answer).encode() + b"\n")
        self.told.flush()

    def listen(self, *others: Any) -> list[Any]:
        """Wait for the other side. An empty line now and then makes a connection that died silently break."""
        while True:
            ready = select.select([self.heard, *others], [], [], self.beat)[0]
            if ready:
                return ready
            self.told.write(b"\n")
            self.told.flush()

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """The lock is a process's hold on the file, not the file: what a dead one leaves holds nobody up."""
        signal.signal(signal.SIGALRM, self.occupied)
        signal.setitimer(signal.ITIMER_REAL, self.patience, self.patience)
        mask = os.umask(0)
        while True:
            # Systems refuse O_CREAT on another user's file in /tmp, so it is for a new one only.
            new = 0 if os.path.lexists(self.path) else os.O_CREAT | os.O_EXCL
            with contextlib.suppress(FileExistsError, FileNotFoundError):  # another was faster
                lock = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | new, 0o666)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if os.fstat(lock).st_nlink:
                    break
                os.close(lock)  # its last holder has removed it
        os.umask(mask)
        signal.setitimer(signal.ITIMER_REAL, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{self.holder}, process {os.getpid()} there, since {since}".encode(), 0)
        try:
            yield lock
        finally:
            with contextlib.suppress(OSError):  # another user's file stays
                os.unlink(self.path)

    def occupied(self, *_: Any) -> NoReturn:
        with open(self.path, errors="replace") as file:
            sys.exit(f"in use by {file.read(200)}; wait, or end that process ({self.path})")

    def put(self, name: str, size: int) -> None:
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name + ".part", "wb") as file:
            while size:
                piece = self.heard.read(min(size, 1 << 16)) or self.end()
                size -= file.write(piece)
        os.replace(name + ".part", name)
        self.tell({})

    def get(self, name: str) -> None:
        with open(name, "rb") as file:
            self.tell({"size": os.fstat(file.fileno()).st_size})
            shutil.copyfileobj(file, self.told)
        self.told.flush()

    def run(self) -> None:
        """The job has the lock too: should the Keeper be killed, nobody else times until the job has ended."""
        command = [sys.executable, "-m", "runner", "job.json"]
        null, pipe = subprocess.DEVNULL, subprocess.PIPE
        job = subprocess.Popen(
            command, stdin=null, stdout=null, stderr=pipe, pass_fds=[self.lock], start_new_session=True
        )
        assert job.stderr
        said, piece = b"", b" "
        try:
            while piece:
                if self.heard in self.listen(job.stderr):
                    self.end()  # nothing is asked during a job: the other side is gone
                piece = os.read(job.stderr.fileno(), 1 << 16)
                said = (said + piece)[-4096:]
            self.tell({"status": job.wait(), "said": said.decode(errors="replace")})
        finally:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
                job.wait()


NEEDS = "contextlib, fcntl, importlib.util, json, os, select, shutil, signal, subprocess, sys, tempfile, time"
KEEPER = f"from __future__ import annotations\nimport {NEEDS}\n{inspect.getsource(Keeper)}"
# One line without a quote or a backslash in it, for any login shell; the Keeper follows on the standard input.
OLD = "Python 3.8 or newer is needed there, this is"
BOOT = f'import sys; sys.version_info < (3, 8) and sys.exit("{OLD} " + sys.version.split()[0]); '
BOOT += "exec(sys.stdin.buffer.read({size}))"


class Ssh(RunnerFolder):
    """``ssh://[user@]host[:port]``: a context, at whose end the device is as it was."""

    def __init__(self, name: str, config: Path | None = None) -> None:
        super().__init__()
        self.name = name
        options, host = read_address(name)
        self.once = shlex.join(["ssh", *options, host])
        holder = f"{getpass.getuser()}@{platform.node()}"
        given = {"path": LOCK, "holder": holder, "patience": PATIENCE_S, "beat": BEAT_S, "quiet": QUIET}
        self.keeper = f"{KEEPER}\nKeeper(**{given!r}).work()\n".encode()
        boot = shlex.quote(BOOT.format(size=len(self.keeper)))
        own = ["-F", str(config)] if config else []
        self.command = ["ssh", *own, *NO_QUESTIONS, *NO_WAITING, *NOTHING_ELSE, *options]
        self.command += ["--", host, f"exec python3 -c {boot}"]

    def __enter__(self) -> Ssh:
        pipe = subprocess.PIPE
        with contextlib.ExitStack() as stack:
            self.errors = stack.enter_context(tempfile.TemporaryFile())
            try:
                self.ssh = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, stderr=self.errors)
            except FileNotFoundError:
                raise Unmeasurable(f"{self.name}: no ssh on this machine; install OpenSSH's client") from None
            stack.callback(self.close)
            assert self.ssh.stdin and self.ssh.stdout
            self.there, self.back = self.ssh.stdin, self.ssh.stdout
            self.send(self.keeper)
            while b'{"retort":' not in self.line(self.refused):
                pass  # what a profile there says to everybody
            for file in sorted(RUNNER.rglob("*.py")):
                self.put(file, f"runner/{file.relative_to(RUNNER)}")
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def close(self) -> None:
        """End the Keeper's input, which is its word to clear away, and wait until it has."""
        try:
            self.ssh.communicate(timeout=CLOSE_S)
        except subprocess.TimeoutExpired:
            self.ssh.kill()
            self.ssh.communicate()

    def put(self, file: Path, name: str) -> None:
        with file.open("rb") as body:
            self.ask(body, do="put", name=name, size=os.fstat(body.fileno()).st_size)

    def get(self, name: str, file: Path) -> None:
        with atomic_write(file) as kept:
            kept.write(self.read(name))

    def read(self, name: str) -> bytes:
        size = self.ask(do="get", name=name)["size"]
        body = self.back.read(size)
        if len(body) < size:
            raise self.lost()
        return body

    def start(self, job: str) -> tuple[int, str]:
        text = job.encode()
        self.ask(io.BytesIO(text), do="put", name="job.json", size=len(text))
        answer = self.ask(do="run")
        return answer["status"], answer["said"]

    def ask(self, body: IO[bytes] | None = None, **question: Any) -> dict[str, Any]:
        self.send(json.dumps(question).encode() + b"\n", body)
        answer: dict[str, Any] = json.loads(self.line(self.lost))
        return answer

    def send(self, words: bytes, body: IO[bytes] | None = None) -> None:
        with contextlib.suppress(BrokenPipeError):  # the answer that does not come tells why
            self.there.write(words)
            if body:
                shutil.copyfileobj(body, self.there)
            self.there.flush()

    def line(self, ended: Callable[[], Unmeasurable]) -> bytes:
        """The next line from there that is no beat."""
        line = b"\n"
        while line == b"\n":
            line = self.back.readline()
        if not line.endswith(b"\n"):
            raise ended()
        return line

    def ending(self) -> tuple[int, list[str]]:
        """ssh's exit status, the far end's or for failures of its own 255, and what was said on stderr."""
        status = self.ssh.wait()
        self.errors.seek(0)
        lines = printable(self.errors.read().decode(errors="replace"))
        return status, lines or [f"ssh ended with status {status}"]

    def refused(self) -> Unmeasurable:
        """Why there is no Keeper at the other end."""
        status, lines = self.ending()
        text = lines[-1]
        if status == 127:
            text = f"no python3 there ({text}); the runner needs Python 3.8 and numpy"
        elif status == 255:
            both = itertools.product(CAUSES, reversed(lines))
            pattern, line = next(pair for pair in both if re.search(*pair))  # the last one fits any line
            text = CAUSES[pattern].format(line=line, once=self.once)
        return Unmeasurable(f"{self.name}: {text}")

    def lost(self) -> Unmeasurable:
        """Why the Keeper answers no more."""
        status, lines = self.ending()
        text = lines[-1]
        if not 0 < status < 255:
            text = f"the connection was lost ({text}); run it again: what is finished is kept"
        return Unmeasurable(f"{self.name}: {text}")
