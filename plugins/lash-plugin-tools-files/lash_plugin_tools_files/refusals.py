"""What the tools say when they can't: texts for the model, with a stable code for programs."""

from __future__ import annotations

import errno
import os

from lash_hookspecs.tools import ToolError, ToolFailureClass

__all__ = ["invalid", "refused", "system_error", "too_large"]

_BY_NUMBER = {
    errno.ENOENT: ("not_found", "there is no `{}`"),
    errno.ENOTDIR: ("not_found", "there is no `{}`: a part of its path is no folder"),
    errno.ELOOP: ("symbolic_link", "`{}`: a symbolic link is on the way, and none is followed"),
    errno.EISDIR: ("not_a_file", "`{}` is a folder"),
    errno.ENAMETOOLONG: ("invalid_path", "`{}`: a name in this path is too long"),
    errno.EACCES: ("permission_denied", "`{}`: permission denied by the system"),
    errno.EPERM: ("permission_denied", "`{}`: permission denied by the system"),
    errno.EROFS: ("permission_denied", "`{}` is on a read-only file system"),
    errno.ENOSPC: ("disk_full", "`{}` was not written: the disk is full"),
    errno.EFBIG: ("disk_full", "`{}` was not written: no file may be that large here"),
    errno.EDQUOT: ("disk_full", "`{}` was not written: the quota is used up"),
    errno.ENXIO: ("not_a_file", "`{}` is no regular file"),
}


def refused(code: str, text: str) -> ToolError:
    """What isn't allowed, whatever is there."""
    return ToolError(text, code=code, failure_class=ToolFailureClass.PERMISSION_DENIED)


def invalid(code: str, text: str) -> ToolError:
    """What the model has to ask in another way."""
    return ToolError(text, code=code, failure_class=ToolFailureClass.INVALID_REQUEST)


def too_large(text: str) -> ToolError:
    """What goes beyond a limit."""
    return ToolError(text, code="too_large", failure_class=ToolFailureClass.RESOURCE_LIMIT)


def system_error(shown: str, error: OSError) -> ToolError:
    """What the system said about a path."""
    number = error.errno or 0
    code, text = _BY_NUMBER.get(number, ("io_error", "`{}`: " + os.strerror(number)))
    kind = ToolFailureClass.PERMISSION_DENIED if code in ("permission_denied", "symbolic_link") else ToolFailureClass.IO
    if code in ("invalid_path", "not_found", "not_a_file"):
        kind = ToolFailureClass.INVALID_REQUEST
    return ToolError(text.format(shown), code=code, failure_class=kind)
