"""What a person allowed for a project: a file of this user's on this machine, written whole, and by one at a time.

It isn't in the project: whoever made the project may have put anything there. It is named by where the project is, and
says so; a file that can't be read, is of another form or project, or that others may write, allows nothing.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

__all__ = ["add", "allows", "can_be_kept", "file_of", "is_kept_apart", "kept_in", "own_folders"]

log = logging.getLogger("lash.approval")

VERSION = 1
LARGEST = 4 * 1024 * 1024
PATIENCE_S = 5.0
"""How long to wait for others that write."""


def kept_in() -> Path:
    """The folder of all projects' files."""
    from platformdirs import user_state_path

    return user_state_path("lash", appauthor=False) / "approvals"


def own_folders() -> tuple[str, ...]:
    """Where lash keeps what was approved and trusted, and, where no `store` is named, sessions with their answers."""
    from platformdirs import user_data_path, user_state_path

    return tuple(str(each("lash", appauthor=False)) for each in (user_state_path, user_data_path))


def can_be_kept() -> bool:
    """Whether this system has the locks with which one writes at a time; Windows hasn't."""
    return find_spec("fcntl") is not None


def is_kept_apart(root: str) -> bool:
    """Whether that folder is outside of the project: else whoever made the project may have made it, too."""
    project = os.path.realpath(root)
    return os.path.commonpath([project, os.path.realpath(kept_in())]) != project


def file_of(root: str) -> Path:
    """The file of the project that is there, behind all links: its name, for people, and its path's hash."""
    place = os.path.realpath(root)
    name = "".join(each if each.isalnum() and each.isascii() else "-" for each in Path(place).name[:40])
    return kept_in() / f"{name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:32]}.json"


def allows(root: str, owner: str, tool: str, args: Mapping[str, Any]) -> bool:
    """Whether exactly this call was allowed in this project."""
    return _line(_entry(owner, tool, args)) in map(_line, _read(file_of(root), root))


def add(root: str, owner: str, tool: str, args: Mapping[str, Any]) -> None:
    """Allow exactly this call in this project. Raises `OSError`; what was there is never lost."""
    file = file_of(root)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(file.with_name(f"{file.name}.lock")):
        entry = _entry(owner, tool, args)
        known = _read(file, root, strict=True)
        if _line(entry) in map(_line, known):
            return
        made = {"version": VERSION, "project": os.path.realpath(root), "allow": [*known, entry]}
        _write(file, json.dumps(made, indent=2))


def _write(file: Path, text: str) -> None:
    made = NamedTemporaryFile(  # noqa: SIM115  # below
        "w", dir=file.parent, prefix=f".{file.name}.", delete=False, encoding="utf-8"
    )
    try:
        with made:
            made.write(f"{text}\n")
            made.flush()
            os.fsync(made.fileno())
        Path(made.name).replace(file)  # closed: Windows moves no file that is open
    except BaseException:
        Path(made.name).unlink(missing_ok=True)
        raise


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Nobody else writes meanwhile. Raises `OSError` if somebody does for too long, as a command of a model's may."""
    import fcntl  # not on every system

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


def _read(file: Path, root: str, *, strict: bool = False) -> list[Any]:
    """What is in the file; nothing if it isn't there. `strict`: raise `OSError` rather than overlook what is broken."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    except OSError as error:
        return _broken(file, str(error.strerror), strict)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return _broken(file, "it is no file", strict)
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return _broken(file, "others than you may write it", strict)
        data = os.read(descriptor, LARGEST + 1)
    finally:
        os.close(descriptor)
    try:
        found = json.loads(data)
        if len(data) > LARGEST or found["version"] != VERSION or not isinstance(found["allow"], list):
            raise ValueError("it has another form")
        if found["project"] != os.path.realpath(root):
            raise ValueError("it is another project's")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return _broken(file, str(error), strict)
    allowed: list[Any] = found["allow"]
    return allowed


def _broken(file: Path, why: str, strict: bool) -> list[Any]:
    if strict:
        raise OSError(f"{file} can't be read ({why}): mend it, or remove it")
    log.warning("%s can't be read (%s), so nothing is allowed by it: mend it, or remove it", file, why)
    return []
