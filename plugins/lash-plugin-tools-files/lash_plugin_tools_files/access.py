"""Who may do what with a file, for one that takes its place: never more than before."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

__all__ = ["same_access"]

_ACL = "system.posix_acl_access"
_NONE = (errno.ENODATA, errno.ENOTSUP) if hasattr(errno, "ENODATA") else (errno.ENOTSUP,)


def same_access(fd: int, old: os.stat_result, where: str) -> None:
    """Give an open file, new and its owner's only, what the old one has: owner, permissions, attributes of the user.

    `where` leads to the old one where the system has its attributes at a path. The bits that lend somebody's rights to
    whoever runs a file are left out: what is in it now was written by a model.
    """
    mode = stat.S_IMODE(old.st_mode) & 0o777
    if not (_owned(fd, old) and _same_attributes(fd, where)):
        mode &= ~stat.S_IRWXG  # they are another group's than before, or stood for a list that isn't there now
    os.fchmod(fd, mode)


def _owned(fd: int, old: os.stat_result) -> bool:
    """Whether it is of the same group now; the owner may have to be another one."""
    made = os.fstat(fd)
    for owner in (old.st_uid, -1):
        if owner in (-1, made.st_uid) and old.st_gid == made.st_gid:
            return True
        with suppress(PermissionError):
            os.fchown(fd, owner, old.st_gid)
            return True
    return False


def _same_attributes(fd: int, where: str) -> bool:
    """Whether its access control list is that of the old one, or both have none."""
    if not hasattr(os, "listxattr"):
        return True
    with suppress(OSError):  # what is lost of these allows nobody anything
        for name in os.listxattr(where, follow_symlinks=False):
            if name.startswith("user."):
                os.setxattr(fd, name, os.getxattr(where, name, follow_symlinks=False))
    try:
        os.setxattr(fd, _ACL, os.getxattr(where, _ACL, follow_symlinks=False))
    except OSError as error:
        if error.errno not in _NONE:
            return False
        with suppress(OSError):
            os.removexattr(fd, _ACL)  # which the folder may have given to the new one
    return True
