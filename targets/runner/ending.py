"""When a runner's process must end: with the process that started it, and where an answer never comes."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>


def end_with(parent: int) -> None:
    """Have the kernel kill this process when ``parent``, which started it, is gone; Linux alone can."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # gone before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)


def end_unless_asked_again(seconds: int) -> None:
    """Have the kernel end this process by SIGALRM after so many seconds, counted from the last call; 0: never.

    Also in the middle of a runtime's call, where no Python code would run.
    """
    signal.alarm(seconds)
