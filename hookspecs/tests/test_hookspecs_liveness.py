"""Whether a process is gone: only where that is certain."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from attrs import evolve

from lash_hookspecs.leases import ProcessStamp
from lash_hookspecs.liveness import is_gone, process_stamp

pytestmark = pytest.mark.skipif(process_stamp() is None, reason="this system keeps no start times of processes")

ASKED = "from lash_hookspecs.liveness import *; m = process_stamp(); print(m.boot, m.pid, m.started, flush=1); input()"


def own() -> ProcessStamp:
    stamp = process_stamp()
    assert stamp is not None
    return stamp


def test_we_are_here() -> None:
    assert own() == own()
    assert own().pid == os.getpid()
    assert not is_gone(own())


def test_a_child_is_gone_once_it_ended_and_was_killed_or_not() -> None:
    child = subprocess.Popen([sys.executable, "-c", ASKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    boot, pid, started = child.stdout.readline().split()
    stamp = ProcessStamp(boot=boot, pid=int(pid), started=int(started))
    assert boot == own().boot
    assert not is_gone(stamp)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it ended, and its number is still its own
    assert is_gone(stamp)
    child.communicate()
    assert is_gone(stamp)


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"started": 1}, True),
        ({"boot": "another boot, another machine, or another container"}, False),
        ({"boot": "another", "pid": 2**22 + 1}, False),
        ({"pid": 2**22 + 1}, True),  # more than there can be
        ({"pid": 1 << 40}, False),  # no number of a process at all
        ({"pid": 0}, False),
        ({"pid": -1}, False),
    ],
)
def test_only_what_is_certain_counts(changes: dict[str, int | str], gone: bool) -> None:
    assert is_gone(evolve(own(), **changes)) is gone  # type: ignore[arg-type]  # fields by name
