"""Replacing a file at once: whoever looks finds the old text or the new one, whole, also after a crash."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from lash_plugin_tools_files.access import same_access
from lash_plugin_tools_files.beneath import parent_folder
from lash_plugin_tools_files.refusals import invalid, refused, system_error
from lash_plugin_tools_files.roots import Place

__all__ = ["TEMPORARY", "replace"]

TEMPORARY = ".lash-tmp-"
"""How the names of files begin that are being written. A process that was killed may leave one."""

_EFFECTIVE = os.access in os.supports_effective_ids
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def replace(place: Place, data: bytes, *, unless: Callable[[os.stat_result | None], bool] = lambda _: False) -> bool:
    """Write the file and all folders above it that are missing; return whether there was one before.

    `unless` is asked about what is there right before it is replaced; if it says True, nothing is, and a `ToolError`
    is raised. A symbolic link is neither written through nor replaced; of a file with several names only this one
    changes.
    """
    if not place.parts:
        raise invalid("not_a_file", f"`{place.shown}` is a folder")
    name = place.parts[-1]
    with parent_folder(place, make=True) as parent:
        old = _there(place, name, parent)
        # Putting another file in its place needs the folder's permission only: who made it read-only means it.
        if old is not None and not os.access(name, os.W_OK, dir_fd=parent, effective_ids=_EFFECTIVE):
            raise system_error(place.shown, PermissionError(errno.EACCES, ""))
        temporary = f"{TEMPORARY}{os.urandom(8).hex()}"
        try:
            fd = os.open(temporary, _CREATE, 0o666 if old is None else 0o600, dir_fd=parent)
            try:
                _write(fd, data)
                if old is not None:
                    same_access(fd, old, f"/proc/self/fd/{parent}/{name}")
                os.fsync(fd)
                if unless(_there(place, name, parent)):
                    raise refused(
                        "changed_meanwhile", f"`{place.shown}` was changed by somebody else just now: read it again"
                    )
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=parent)
                raise
            finally:
                os.close(fd)
            _sync_folder(parent)
        except OSError as error:
            raise system_error(place.shown, error) from error
    return old is not None


def _there(place: Place, name: str, parent: int) -> os.stat_result | None:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise system_error(place.shown, error) from error
    if stat.S_ISLNK(found.st_mode):
        raise refused("symbolic_link", f"`{place.shown}` is a symbolic link, and none is written through")
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise refused("not_a_file", f"`{place.shown}` is {what}")
    return found


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def _sync_folder(parent: int) -> None:
    """Make the new name last. The descriptor itself may be one that only leads further."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
