"""The names of devices, as a user writes them: ``local``, ``ssh://…``, ``adb://…``, ``emulator:…``."""

from __future__ import annotations

import re

from targets.errors import Refusal, unknown

SSH, EMULATOR, ADB = "ssh://", "emulator:", "adb://"
# Not "max": its matrix extension makes QEMU ten times slower.
CPUS = {
    "cortex-a72": "no dot product, as in a Raspberry Pi 4",
    "cortex-a76": "dot product, as in a Raspberry Pi 5",
    "neoverse-n2": "int8 matrix products, as in an Arm server",
}
# Names that can be mistaken neither for options nor for words of a shell, wherever ssh hands them on.
USER, HOST = r"[\w.][\w.-]*", r"[\w.][\w.-]*|\[[\da-fA-F:.]+(?:%\w+)?\]"
SERIAL = re.compile(r"[\w.][\w.:-]*", re.ASCII)
ADDRESS = re.compile(rf"ssh://(?:(?P<user>{USER})@)?(?P<host>{HOST})(?::(?P<port>\d{{1,5}}))?", re.ASCII)


def read_address(name: str) -> tuple[list[str], str]:
    """``ssh://user@host:port`` as ssh's options and its host. Raises Refusal."""
    found = ADDRESS.fullmatch(name)
    if found is None or not 0 < int(found["port"] or 22) < 65536:
        shown = re.sub(r"//.*@", "//…@", name)  # a password may stand there
        raise Refusal(
            f"DEVICE: '{shown}' is no address of the form ssh://user@host:port;"
            " user and port may be left out, and a password is never in it"
        )
    port = ["-p", found["port"]] if found["port"] else []
    user = ["-l", found["user"]] if found["user"] else []
    return [*port, *user], found["host"].strip("[]")


def check_device(name: str) -> None:
    """Raises Refusal for a kind of device that there is not, or an address that is none."""
    if name.startswith(SSH):
        read_address(name)
    elif name.startswith(EMULATOR):
        if name.removeprefix(EMULATOR) not in CPUS:
            raise unknown("emulated processor", name.removeprefix(EMULATOR), CPUS, "DEVICE")
    elif name.startswith(ADB):
        if not SERIAL.fullmatch(name.removeprefix(ADB)):
            raise Refusal(f"DEVICE: '{name}' has no serial number behind adb://, as adb devices lists them")
    elif name != "local":
        known = f"local, ssh://user@host:port, adb://serial, emulator:{'|'.join(CPUS)}"
        raise Refusal(f"DEVICE: no device '{name}'; known: {known}")
