"""Opening what is below a root, name by name, so that nothing can lead out of it while it is opened.

Each name is opened relative to the descriptor of the folder before it, with `O_NOFOLLOW`. A check that comes before an
`open` of a whole path can be overtaken by somebody who puts a symbolic link in between; here there is no such moment. A
folder that is moved away meanwhile is still the one that was below the root when its name was opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from lash_hookspecs.tools import ToolError
from lash_plugin_tools_files.refusals import refused, system_error
from lash_plugin_tools_files.roots import Place

__all__ = ["checked_file", "folder", "opened", "parent_folder"]

_SEARCH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LINK = (errno.ELOOP, errno.ENOTDIR, errno.EMLINK)


@contextmanager
def opened(place: Place) -> Iterator[int]:
    """A descriptor of a regular file, to read from. Raises `ToolError` for anything else."""
    if not place.parts:
        raise system_error(place.shown, OSError(errno.EISDIR, ""))
    fd = _opened(place, place.parts, _READ)
    try:
        yield fd
    finally:
        os.close(fd)


def checked_file(place: Place, fd: int, *, hard_links: bool) -> os.stat_result:
    """What is known of an open file. Raises `ToolError` if it is no regular one, or may be one from outside."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        what = "is a folder" if stat.S_ISDIR(found.st_mode) else "is no regular file"
        raise refused("not_a_file", f"`{place.shown}` {what}")
    if found.st_nlink > 1 and not hard_links:
        raise refused(
            "hard_link",
            f"`{place.shown}` has {found.st_nlink} hard links, so that it may be a file from outside; "
            "`plugin.tools-files.hard_links` would allow it",
        )
    return found


@contextmanager
def parent_folder(place: Place, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder that has, or will have, the place's last name; `make` creates what is missing."""
    fd = _opened(place, place.parts[:-1], _SEARCH, make=make)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def folder(place: Place) -> Iterator[int]:
    """A descriptor of a folder, to read its names from."""
    fd = _opened(place, place.parts, _LIST)
    try:
        yield fd
    finally:
        os.close(fd)


def _opened(place: Place, parts: Sequence[str], flags: int, *, make: bool = False) -> int:
    """Open the names one below the other, the last one with these flags."""
    fd, ahead = _root(place, flags if not parts else _SEARCH), len(parts)
    for name in parts:
        ahead -= 1
        fd = _below(place.shown, name, fd, flags if not ahead else _SEARCH, make=make)
    return fd


def _root(place: Place, flags: int) -> int:
    """The folder that the user named. If another one is in its place by now, no link may lead there."""
    root = place.root
    try:
        fd = os.open("/" + "/".join(root.real), flags)
        found = os.fstat(fd)
    except OSError as error:
        if error.errno not in _LINK:
            raise system_error(root.path, error) from error
    else:
        if (found.st_dev, found.st_ino) == root.identity:
            return fd
        os.close(fd)
    fd, ahead = os.open("/", flags if not root.real else _SEARCH), len(root.real)
    for name in root.real:
        ahead -= 1
        fd = _below(root.path, name, fd, flags if not ahead else _SEARCH)
    return fd


def _below(shown: str, name: str, parent: int, flags: int, *, make: bool = False) -> int:
    """Open a name in a folder, and close the folder."""
    try:
        if make:
            _make_folder(name, parent)
        return os.open(name, flags, dir_fd=parent)
    except OSError as error:
        raise _link(shown, name, parent, error) or system_error(shown, error) from error
    finally:
        os.close(parent)


def _make_folder(name: str, parent: int) -> None:
    with suppress(FileExistsError):  # whatever it is, it is opened next, without following it
        os.mkdir(name, dir_fd=parent)


def _link(shown: str, name: str, parent: int, error: OSError) -> ToolError | None:
    """What to say if it is a symbolic link."""
    if error.errno not in _LINK:
        return None
    try:
        target = os.readlink(name, dir_fd=parent)
    except OSError:
        return None
    target = target.encode(errors="backslashreplace").decode()
    return refused(
        "symbolic_link",
        f"`{shown}`: `{name}` is a symbolic link, and none is followed; it leads to `{target}`: "
        "if that is within the folders that may be used, say its own path",
    )
