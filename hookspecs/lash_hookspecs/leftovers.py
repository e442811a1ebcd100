"""Ending what a program has left behind: for plugins that start one, and must not leave anything of it running.

A process group is easily left (`setsid`). What was started is found by three marks more: its session, a variable in its
environment that nothing else had, and being below a known process. Who has shed all of them isn't found.
"""

# ruff: noqa: PTH123, PTH208  # what is read here is no file of anybody's
from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Collection, Iterable
from contextlib import suppress

from lash_hookspecs.values import frozen

__all__ = ["STARTED_FOR_A_MODEL", "Leftover", "end_leftovers", "processes_below"]

STARTED_FOR_A_MODEL = "LASH_COMMAND"
"""The variable by which a tool marks a process that does what a model wants, such as a command or a server: `lash`
takes no answer to a question from such a process, or from one below it."""

_ROUNDS = 20
_PATIENCE_S = 0.25
"""For a round in which a process that was killed doesn't get to end: the machine is busy, or its disk hangs."""

_LOOK_S = 0.002


@frozen
class Leftover:
    """A process that is known by when it began, too: its number may be somebody else's later."""

    pid: int
    began: int


def processes_below(pid: int) -> set[Leftover]:
    """All processes that a process has started, and those have, as far as their parents are still there."""
    rows = _processes()
    by_parent: dict[int, list[int]] = {}
    for each, row in rows.items():
        by_parent.setdefault(row.parent, []).append(each)
    found: set[Leftover] = set()
    waiting = [pid]
    while waiting:
        below = by_parent.get(waiting.pop(), [])
        found |= {Leftover(each, rows[each].began) for each in below}
        waiting += below
    return found


def end_leftovers(variable: str, value: str, *, session: int | None = None, known: Iterable[Leftover] = ()) -> int:
    """Kill what has the variable in its environment, is of the session, or `known`; return how many that were.

    Blocks for as long as it takes to read all of `/proc`, some milliseconds, and until they have ended, five seconds at
    the most; without Linux it ends the session's group.
    """
    if session is not None:
        with suppress(OSError):
            os.killpg(session, signal.SIGKILL)
    ended: set[Leftover] = set()
    wanted, before = f"{variable}={value}".encode(), set(known)
    for _ in range(_ROUNDS):  # those that make new ones may be quicker than one look at all of them
        found = {
            each
            for pid, row in _processes().items()
            if (each := Leftover(pid, row.began)) in before or row.session == session or _has(pid, wanted)
        }
        if not found:
            break
        ended |= found
        _kill(found)
    return len(ended)


def _kill(found: Collection[Leftover]) -> None:
    """Kill them, and wait until all have ended, or a round is over."""
    for each in found:
        with suppress(OSError):  # it has ended
            os.kill(each.pid, signal.SIGKILL)
    until = time.monotonic() + _PATIENCE_S
    # Looked at rather than awaited by `pidfd_open`, which isn't in every Python, nor in every kernel.
    while any(map(_runs, found)) and time.monotonic() < until:
        time.sleep(_LOOK_S)


def _runs(one: Leftover) -> bool:
    row = _row(one.pid)
    return row is not None and row.began == one.began


@frozen
class _Row:
    parent: int
    session: int
    began: int


def _processes() -> dict[int, _Row]:
    """All that run, by their numbers; none where the system doesn't list them as Linux does."""
    found: dict[int, _Row] = {}
    if sys.platform != "linux":
        return found
    own = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != own and (row := _row(int(name))) is not None:
            found[int(name)] = row
    return found


def _row(pid: int) -> _Row | None:
    """What the system says of a process; nothing of one that has ended, though its parent hasn't heard of it yet."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else _Row(int(fields[1]), int(fields[3]), int(fields[19]))


def _has(pid: int, wanted: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return wanted in file.read().split(b"\0")
    except OSError:
        return False  # it has ended, or is somebody else's
