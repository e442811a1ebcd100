"""Whether a person can be behind this command, or a model that has been given a shell.

A tool that starts processes for a model marks them with the variable `LASH_COMMAND`. Whoever answers a question, or
switches something that holds a model back, isn't below such a process: a model would allow its own call. On Linux
the processes above are looked at, too, so that a wiped environment and a daemon are seen. It holds who uses `lash`: a
command that isn't in a sandbox may write to the store itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.leftovers import STARTED_FOR_A_MODEL

__all__ = ["is_for_a_model", "require_person"]


def is_for_a_model() -> bool:
    """Whether a tool started this process, or one above it, for a model."""
    return STARTED_FOR_A_MODEL in os.environ or (sys.platform == "linux" and any(map(_is_marked, _above())))


def require_person(what: str) -> None:
    """Raise `ConfigurationError` where a model may be behind it. `what`: what it would do."""
    if is_for_a_model():
        raise ConfigurationError(
            f"a model's command may not {what}: this runs below a process that a tool started for one "
            f"(`{STARTED_FOR_A_MODEL}`); do it in a terminal of your own"
        )


def _above() -> list[int]:
    """This process and those above it."""
    found, pid = [], os.getpid()
    while pid > 0 and pid not in found:
        found.append(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
        except OSError:  # it has just ended
            break
    return found


def _is_marked(pid: int) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # another user's
        return False
    return any(each.startswith(f"{STARTED_FOR_A_MODEL}=".encode()) for each in environment.split(b"\0"))
