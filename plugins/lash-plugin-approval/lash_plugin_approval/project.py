"""What a person allowed for a project: a file in it, written whole, and by one at a time.

A file that can't be read, or isn't of this form, allows nothing.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

__all__ = ["add", "allows"]

log = logging.getLogger("lash.approval")

VERSION = 1
LARGEST = 4 * 1024 * 1024
PATIENCE_S = 5.0
"""How long to wait for others that write."""


def allows(file: Path, owner: str, tool: str, args: Mapping[str, Any]) -> bool:
    """Whether exactly this call was allowed in this project."""
    return _line(_entry(owner, tool, args)) in map(_line, _read(file))


def add(file: Path, owner: str, tool: str, args: Mapping[str, Any]) -> None:
    """Allow exactly this call in this project. Raises `OSError`; what was there is never lost."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with _locked(file.with_name(f"{file.name}.lock")):
        entry = _entry(owner, tool, args)
        known = _read(file, strict=True)
        if _line(entry) in map(_line, known):
            return
        text = json.dumps({"version": VERSION, "allow": [*known, entry]}, ensure_ascii=False, indent=2)
        with NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.", delete=False, encoding="utf-8") as made:
            try:
                made.write(f"{text}\n")
                made.flush()
                os.fsync(made.fileno())
                Path(made.name).replace(file)
            except BaseException:
                Path(made.name).unlink(missing_ok=True)
                raise


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Nobody else writes meanwhile. Raises `OSError` if somebody does for too long, as a command of a model's may."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise OSError(errno.EAGAIN, "another process holds its lock") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _entry(owner: str, tool: str, args: Mapping[str, Any]) -> dict[str, Any]:
    return {"owner": owner, "tool": tool, "args": dict(args)}


def _line(entry: Any) -> str:
    """An entry to be compared: 1, 1.0 and true are three values here, and equal in Python."""
    return json.dumps(entry, sort_keys=True)


def _read(file: Path, *, strict: bool = False) -> list[Any]:
    """What is in the file; nothing if it isn't there. `strict`: raise `OSError` rather than overlook what is broken."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    except OSError as error:
        return _broken(file, str(error.strerror), strict)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return _broken(file, "it is no file", strict)
        data = os.read(descriptor, LARGEST + 1)
    finally:
        os.close(descriptor)
    try:
        found = json.loads(data)
        if len(data) > LARGEST or found["version"] != VERSION or not isinstance(found["allow"], list):
            raise ValueError("it has another form")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return _broken(file, str(error), strict)
    allowed: list[Any] = found["allow"]
    return allowed


def _broken(file: Path, why: str, strict: bool) -> list[Any]:
    if strict:
        raise OSError(f"{file} can't be read ({why}): mend it, or remove it")
    log.warning("%s can't be read (%s), so nothing is allowed by it: mend it, or remove it", file, why)
    return []
