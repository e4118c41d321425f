"""An Android phone behind adb: it has no Python, so a given tool of its runtime times there; this machine answers.

The tool is LiteRT's benchmark_model or ONNX Runtime's onnxruntime_perf_test, built for the phone. Of a process a tool
tells the median, so no tail is known.
"""

from __future__ import annotations

import random
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from targets.devices.base import Local, printable
from targets.errors import Unmeasurable
from targets.runner.backends import backend
from targets.runner.environment import FEATURES

PLACE = "/data/local/tmp/retort"
NO_TAILS = "the phone's tool tells the median of a process, and no tail"


class Phone(Local):
    """``adb://SERIAL``: the tool is pushed and run there; all else is done here."""

    def __init__(self, folder: Path, serial: str) -> None:
        super().__init__(folder)
        self.serial = serial
        self.sent: set[str] = set()

    def adb(self, *words: str) -> str:
        """What adb prints. Raises Unmeasurable with its last line where it fails."""
        program = shutil.which("adb")
        if program is None:
            raise Unmeasurable(f"adb://{self.serial}: no adb here; apt-get install adb")
        command = [program, "-s", self.serial, *words]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            said = printable(done.stderr) or printable(done.stdout) or [f"status {done.returncode}"]
            raise Unmeasurable(f"adb://{self.serial}: {said[-1]}")
        return done.stdout

    def shell(self, *words: str) -> str:
        """Run a program there; no word meets the phone's shell unquoted."""
        return self.adb("shell", shlex.join(words))

    def send(self, file: Path, name: str) -> str:
        """Push a file once; where it lies there."""
        there = f"{PLACE}/{name}"
        if name not in self.sent:
            self.adb("push", str(file.resolve()), there)
            self.sent.add(name)
        return there

    @contextmanager
    def held(self) -> Iterator[Phone]:
        """Its folder there is the lock too: it can be made once."""
        try:
            self.shell("mkdir", PLACE)
        except Unmeasurable as why:
            if "exists" in str(why):
                raise Unmeasurable(
                    f"adb://{self.serial}: {PLACE} is there, so another run is using the phone; if none is:"
                    f" adb -s {self.serial} shell rm -r {PLACE}"
                ) from None
            raise
        try:
            yield self
        finally:
            self.shell("rm", "-r", PLACE)

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["do"] == "time":
            return self.clock(job)
        if job["do"] == "sustain":
            raise Unmeasurable(f"adb://{self.serial}: sustained work is not measured on a phone")
        done = super().run(job)
        if job["do"] == "look":
            done["after"] = {**self.there(), "answers": "given by the machine that judged, not by the phone"}
        return done

    def clock(self, job: dict[str, Any]) -> dict[str, Any]:
        """Each engine in a process of its own, in an order drawn anew."""
        tool = backend(job["backend"]).phone
        if tool is None:
            raise Unmeasurable(f"adb://{self.serial}: no tool is known that times {job['backend']} there")
        if job["tool"] is None:
            raise Unmeasurable(
                f"adb://{self.serial}: what shall time there? Give a profile of your own"
                f' extends = and tool = "path/to/{tool.program}", built for the phone'
            )
        self.shell("chmod", "755", self.send(Path(job["tool"]), "tool"))
        names, blocks = list(job["engines"]), {}
        random.Random(job["seed"]).shuffle(names)
        for name in names:
            one = job["engines"][name]
            model = self.send(self.folder / one["engine"], f"{name}.{job['format']}")
            words = tool.words(model, one["options"]["threads"], job["seconds"] / len(names))
            printed = self.shell(f"{PLACE}/tool", *words)
            seconds = tool.seconds(printed)
            if seconds is None:
                last = (printable(printed) or ["nothing"])[-1]
                raise Unmeasurable(f"adb://{self.serial}: the tool printed no median, but: {last}")
            blocks[name] = [[seconds]]
        timer = {"tool": Path(job["tool"]).name, "no_tails": NO_TAILS}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {"blocks": blocks, "timer": timer, "time": now, "after": self.there()}

    def there(self) -> dict[str, Any]:
        """The phone and its state; what it does not tell is left out."""
        asked = {
            "host": ["getprop", "ro.product.model"],
            "android": ["getprop", "ro.build.version.release"],
            "machine": ["getprop", "ro.product.cpu.abi"],
            "emulated": ["getprop", "ro.boot.qemu"],
            "governor": ["cat", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"],
            "celsius": ["cat", "/sys/class/thermal/thermal_zone0/temp"],
        }
        facts: dict[str, Any] = {}
        for name, words in asked.items():
            with suppress(Unmeasurable):
                facts[name] = self.shell(*words).strip()
        facts["emulated"] = facts.get("emulated") == "1"
        if facts.get("celsius", "").lstrip("-").isdigit():
            facts["celsius"] = [int(facts["celsius"]) / 1000]
        flags = set(self.shell("cat", "/proc/cpuinfo").split())
        model = facts.get("host", "a phone")
        facts["cpu"] = {"model": model, "features": [flag for flag in FEATURES if flag in flags]}
        return {name: value for name, value in facts.items() if value}
