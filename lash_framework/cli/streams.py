"""Standard output for the answer alone: whatever else is written to it during a turn reaches standard error.

And standard error without which things go on: what can't be said there (a full disk below a log) loses no turn.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import IO, Any

__all__ = ["forgiving_stderr", "own_stdout", "same_file"]


@contextmanager
def own_stdout() -> Iterator[IO[str]]:
    """Yield standard output under a file number of its own, and lend number 1 to standard error meanwhile.

    So not only what a tool prints, but also what its subprocesses and C libraries write, stays out of the answer. Where
    `sys.stdout` isn't the process's own (in tests, in an application), only Python's name is redirected.
    """
    out = sys.stdout
    if not _are_our_own(out):
        with redirect_stdout(sys.stderr):
            yield out
        return
    with suppress(OSError):  # whoever writes next hears of it
        out.flush()
    number = os.dup(1)
    mine = open(number, "w", encoding=out.encoding, errors=out.errors, closefd=False)  # noqa: SIM115  # closed below
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield mine
    finally:
        os.dup2(number, 1)
        with suppress(OSError):  # each write was flushed: what failed then was told then
            mine.close()
        os.close(number)


class _Forgiving(io.FileIO):
    """A file that says of all that it was written."""

    def write(self, data: Any, /) -> int:
        """Write what can be written."""
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError:
            return memoryview(data).nbytes


@contextmanager
def forgiving_stderr() -> Iterator[None]:
    """Meanwhile a message that standard error doesn't take is lost, and nothing else. Others' streams stay."""
    before = sys.stderr
    try:
        is_ours = before.fileno() == 2
    except (OSError, ValueError, AttributeError):
        is_ours = False
    if not is_ours:
        yield
        return
    raw = io.BufferedWriter(_Forgiving(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(raw, before.encoding, before.errors, line_buffering=True)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = before


def _are_our_own(out: IO[str]) -> bool:
    try:
        os.fstat(2)
        return out.fileno() == 1
    except (OSError, ValueError, AttributeError):
        return False


def same_file(one: IO[str], other: IO[str]) -> bool:
    """Whether both write to the same terminal, pipe or file."""
    try:
        return one is other or os.path.sameopenfile(one.fileno(), other.fileno())
    except (OSError, ValueError, AttributeError):
        return False
