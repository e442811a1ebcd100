"""Where a command is started: in one of the roots, or below one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.tools import ToolError, ToolFailureClass

__all__ = ["Folders"]


class Folders:
    """The roots, without links."""

    def __init__(self, roots: Sequence[str]) -> None:
        self.roots: list[str] = []
        for folder in roots:
            path = os.path.realpath(os.path.expanduser(folder))  # noqa: PTH111
            if not os.path.isdir(path):  # noqa: PTH112
                raise ConfigurationError(
                    f"`plugin.tools-shell.roots`: there is no folder `{folder}` ({path}): make it, or name another one"
                )
            self.roots.append(path)

    def open(self, given: str) -> int:
        """A descriptor of a folder, for the command to be started in. Raises `ToolError` if it is outside of all roots.

        Where it is, is asked of the descriptor: no link that somebody puts in between can change it any more.
        """
        if "\0" in given:
            raise _refused(f"{given!r} is no path")
        path = os.path.join(self.roots[0], given)  # noqa: PTH118
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, UnicodeEncodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it can't be encoded"
            raise ToolError(
                f"a command can't be started in `{given}`: {why}",
                code="no_folder",
                failure_class=ToolFailureClass.INVALID_REQUEST,
            ) from None
        real = os.path.realpath(path) if sys.platform != "linux" else os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
        if not any(real == root or real.startswith(f"{root.rstrip('/')}/") for root in self.roots):
            os.close(fd)
            listed = ", ".join(f"`{root}`" for root in self.roots)
            raise _refused(f"`{given}` is outside of the folders that commands may be started in: {listed}")
        return fd


def _refused(text: str) -> ToolError:
    return ToolError(text, code="outside_root", failure_class=ToolFailureClass.PERMISSION_DENIED)
