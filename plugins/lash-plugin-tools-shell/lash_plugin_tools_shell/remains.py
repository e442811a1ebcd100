"""Ending what is left of a command whose supervisor was killed, by whom can only be guessed.

The command itself has died with its supervisor. What it had started is found by its session, and by a variable in its
environment that nothing but this command had. Who has left the session and wiped the environment isn't found: only a
sandbox holds that.
"""

# ruff: noqa: PTH123, PTH208  # what is read here is no file of anybody's
from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from lash_plugin_tools_shell.environment import COOKIE

__all__ = ["end_remains"]

_ROUNDS = 20


def end_remains(pid: int | None, cookie: str) -> None:
    """Kill them, until none is found."""
    if pid is not None:
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    if sys.platform != "linux":
        return
    wanted = f"{COOKIE}={cookie}".encode()
    for _ in range(_ROUNDS):
        found = [each for each in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_one(each, pid, wanted)]
        if not found:
            return
        for each in found:
            with suppress(OSError):
                os.kill(each, signal.SIGKILL)


def _is_one(process: int, session: int | None, wanted: bytes) -> bool:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] == b"Z":
            return False
        if session is not None and int(fields[3]) == session:
            return True
        with open(f"/proc/{process}/environ", "rb") as file:
            return wanted in file.read().split(b"\0")
    except OSError:
        return False  # it has ended, or is somebody else's
