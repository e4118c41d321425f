"""A device by its name, opened for as long as it is needed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from targets.devices.adb import Phone
from targets.devices.address import ADB, EMULATOR, SSH, check_device
from targets.devices.base import Device, Local
from targets.devices.emulator import Emulated
from targets.devices.ssh import Ssh


@contextmanager
def open_device(name: str) -> Iterator[Device]:
    """The device a user named, for as long as it is needed."""
    check_device(name)
    if name.startswith(SSH):
        with Ssh(name) as device:
            yield device
    else:
        with tempfile.TemporaryDirectory(prefix="retort-") as folder:
            if name == "local":
                yield Local(Path(folder))
            elif name.startswith(ADB):
                with Phone(Path(folder), name.removeprefix(ADB)).held() as phone:
                    yield phone
            else:
                yield Emulated(Path(folder), name.removeprefix(EMULATOR))
