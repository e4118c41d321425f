"""A stand-in for adb's server with one phone on it, for the real adb client: a folder, and this machine's programs.

It speaks as much of the protocol as the client needs for push and shell (read in AOSP's SERVICES.TXT, SYNC.TXT and
shell_protocol.h); it is no Android.
"""

from __future__ import annotations

import socketserver
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

SERIAL = "FAKE-0001"
PHONE = "/data/local/tmp"
FEATURES = "shell_v2,cmd"
STDOUT, STDERR, EXIT = 1, 2, 3


def counted(text: str) -> bytes:
    return b"%04x" % len(text) + text.encode()


class Conversation(socketserver.BaseRequestHandler):
    folder: ClassVar[Path]

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.request.recv(count - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def handle(self) -> None:
        try:
            while self.answer(self.read(int(self.read(4), 16)).decode()):
                pass
        except (ConnectionError, ValueError):
            return

    def answer(self, asked: str) -> bool:
        """Whether the conversation goes on after this."""
        if asked == "host:version":
            self.request.sendall(b"OKAY" + counted("0029"))
        elif asked.endswith(":features"):
            self.request.sendall(b"OKAY" + counted(FEATURES))
        elif asked.startswith(("host:tport:serial:", "host:transport:")):
            if asked.rpartition(":")[2] != SERIAL:
                self.request.sendall(b"FAIL" + counted(f"device '{asked.rpartition(':')[2]}' not found"))
                return False
            self.request.sendall(b"OKAY" + (struct.pack("<Q", 1) if "tport" in asked else b""))
            return True
        elif asked.startswith("shell,v2"):
            self.request.sendall(b"OKAY")
            self.run(asked.partition(":")[2])
        elif asked == "sync:":
            self.request.sendall(b"OKAY")
            self.keep()
        else:
            self.request.sendall(b"FAIL" + counted(f"the stand-in does not know {asked}"))
        return False

    def run(self, command: str) -> None:
        script = command.replace(PHONE, str(self.folder))
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        done = subprocess.run(["sh", "-c", script], capture_output=True, env={"PATH": path}, check=False)
        for kind, data in ((STDOUT, done.stdout), (STDERR, done.stderr), (EXIT, bytes([done.returncode]))):
            if data:
                self.request.sendall(struct.pack("<BI", kind, len(data)) + data)

    def keep(self) -> None:
        """adb's sync protocol: what is there, and take a file."""
        while True:
            what, length = self.read(4), struct.unpack("<I", self.read(4))[0]
            if what == b"QUIT":
                return
            path = self.read(length).decode()
            if what == b"STAT":
                self.request.sendall(b"STAT" + struct.pack("<III", 0, 0, 0))
            elif what == b"SEND":
                self.take(Path(path.rpartition(",")[0].replace(PHONE, str(self.folder))))

    def take(self, file: Path) -> None:
        data = b""
        while True:
            what, length = self.read(4), struct.unpack("<I", self.read(4))[0]
            if what == b"DONE":
                break
            data += self.read(length)
        file.write_bytes(data)
        self.request.sendall(b"OKAY" + struct.pack("<I", 0))


def getprop(properties: dict[str, str]) -> str:
    """Android's program of that name, with these properties."""
    cases = "\n".join(f"{name}) echo {value};;" for name, value in properties.items())
    return f"#!/bin/sh\ncase $1 in\n{cases}\nesac\n"


@contextmanager
def fake_phone(folder: Path, properties: dict[str, str]) -> Iterator[int]:
    """The port of a server whose one phone keeps its files in ``folder``."""
    (folder / "bin").mkdir()
    (folder / "bin" / "getprop").write_text(getprop(properties))
    (folder / "bin" / "getprop").chmod(0o755)
    handler: Any = type("Here", (Conversation,), {"folder": folder})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
