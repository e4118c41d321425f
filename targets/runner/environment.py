"""Where a measurement was taken: processor, load, governor, temperatures; what cannot be read is left out."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import subprocess
from typing import Any

# The instructions that decide which int8 kernels run, and whether products saturate.
FEATURES = [
    "asimd",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "asimdhp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
]


def read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return None


def emulated() -> bool:
    """Whether the processor is not a real one.

    A process of QEMU's is called after it, unless the kernel started it; and QEMU answers for /proc/cpuinfo by its
    path, but not for the file in its folder.
    """
    if (read("/proc/self/comm") or "").startswith("qemu-"):
        return True
    try:
        folder = os.open("/proc", os.O_RDONLY)
        with os.fdopen(os.open("cpuinfo", os.O_RDONLY, dir_fd=folder)) as file:
            real = file.read()
        os.close(folder)
    except OSError:
        real = ""
    return fields_of(real) != fields_of(read("/proc/cpuinfo") or "")


def fields_of(text: str) -> set[str]:
    return {line.partition(":")[0].strip() for line in text.splitlines()}


def cpu() -> dict[str, Any]:
    fields: dict[str, str] = {}
    for line in (read("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    name = fields.get("model name") or fields.get("model") or platform.processor() or platform.machine()
    return {"model": name, "features": [flag for flag in FEATURES if flag in flags]}


def environment() -> dict[str, Any]:
    """A snapshot: who measures, on what, in which state."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    facts = {
        "host": platform.node(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": cpu(),
        "cores": len(cores) or os.cpu_count(),
        "pinned_to": cores if len(cores) < (os.cpu_count() or 0) else [],
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load": os.getloadavg()[0],
        "celsius": celsius(),
        "emulated": emulated() or None,
        "board": (read("/proc/device-tree/model") or "").strip("\0") or None,
        "power_mode": power_mode(),
    }
    return {key: value for key, value in facts.items() if value not in (None, [])}


def power_mode() -> str | None:
    """A Jetson's, as its own tool says it: without it a latency there means little."""
    program = shutil.which("nvpmodel")
    if program is None:
        return None
    done = subprocess.run(
        [program, "-q"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    lines = [line.partition(":")[2].strip() for line in done.stdout.splitlines() if "Power Mode" in line]
    return lines[0] if lines else None


def numbers(pattern: str) -> list[int]:
    """The whole numbers in the files of a pattern; what is none, or cannot be read, is left out."""
    texts = [read(path) for path in sorted(glob.glob(pattern))]
    return [int(text) for text in texts if text and text.lstrip("-").isdigit()]


def celsius() -> list[float]:
    return [number / 1000 for number in numbers("/sys/class/thermal/thermal_zone*/temp")]


def state() -> dict[str, float]:
    """What changes under load, where it can be read: the hottest zone, the slowest core's clock."""
    khz = numbers("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    hot = celsius()
    return {**({"celsius": max(hot)} if hot else {}), **({"mhz": min(khz) / 1000} if khz else {})}


def memory_peak() -> int | None:
    """The most bytes of memory that this process has held."""
    for line in (read("/proc/self/status") or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
