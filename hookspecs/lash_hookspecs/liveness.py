"""Whether a process that held something is still there, as far as the machine's own records can prove it."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path

from lash_hookspecs.leases import ProcessStamp

__all__ = ["is_gone", "process_stamp"]


def process_stamp() -> ProcessStamp | None:
    """The stamp of this process; None where the system doesn't keep what it takes (it does on Linux)."""
    # By number, so that a forked child doesn't wear its parent's.
    return _stamp_of(os.getpid())


def is_gone(stamp: ProcessStamp) -> bool:
    """Whether the process is provably gone; False whenever that isn't certain.

    Certain is: the stamp is of our boot and of our namespace of process ids, and its number belongs to no process, to
    one that started at another time, or to one that has ended and only waits for its parent to notice.
    """
    here = _place()
    if here is None or stamp.boot != here or stamp.pid <= 0:
        return False
    found = _started(stamp.pid)
    return found is not None and found != stamp.started


@lru_cache(maxsize=1)
def _stamp_of(pid: int) -> ProcessStamp | None:
    boot, started = _place(), _started(pid)
    if boot is None or started is None or started == _NOBODY:
        return None
    return ProcessStamp(boot=boot, pid=pid, started=started)


def _place() -> str | None:
    """Our machine's boot and our namespaces of process ids and of time; none changes while a process lives."""
    if sys.platform != "linux":
        return None
    try:
        if int(Path("/proc/self/stat").read_bytes().split(None, 1)[0]) != os.getpid():
            return None  # these are the records of another namespace
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        spaces = [Path("/proc/self/ns/pid"), Path("/proc/self/ns/time")]  # the latter only since Linux 5.6
        return "/".join([boot, *(str(each.stat().st_ino) for each in spaces if each is spaces[0] or each.exists())])
    except (OSError, ValueError):
        return None


_NOBODY = -1


def _started(pid: int) -> int | None:
    """When the process started, in ticks since boot; `_NOBODY` if none runs, None if that can't be said."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        # Some systems hide other users' processes: only the kernel's word that there is none counts.
        return None if _exists(pid) else _NOBODY
    except OSError:
        return None
    # The name, in brackets, may hold anything; what follows its last bracket is fields 3 (state) to 22 (start) and on.
    fields = stat[stat.rfind(b")") + 2 :].split()
    try:
        return _NOBODY if fields[0] in (b"Z", b"X") and _is_alone(pid) else int(fields[19])
    except (IndexError, ValueError):
        return None


def _is_alone(pid: int) -> bool:
    """Whether a process that has ended has no thread that goes on without its first one."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir()) <= 1
    except OSError:
        return False


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
