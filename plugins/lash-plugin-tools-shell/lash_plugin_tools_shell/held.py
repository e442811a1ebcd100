"""What a command in the sandbox can neither change nor make: what programs outside read by themselves, and obey.

A folder is mounted over a name that isn't there, which makes an empty folder of that name outside, too. It is taken
away again once no command of any process runs in that root; so an empty folder of such a name counts as none.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePath

__all__ = ["Held"]

Mount = tuple[str, ...]

_PATIENCE = 50


class Held:
    """These names below each of these folders, which are without links."""

    def __init__(self, folders: Sequence[str], names: Sequence[str]) -> None:
        self._folders = tuple(dict.fromkeys(folders))
        paths = {PurePath(os.path.normpath(each)): None for each in names}
        self._names = [str(each) for each in paths if not any(above in paths for above in each.parents)]

    def mounts(self) -> list[Mount]:
        """How bubblewrap is told of them, as they are now; each ends with where it is."""
        found: dict[str, Mount] = {}
        for folder in self._folders:
            for name in self._names:
                *above, last = PurePath(name).parts
                at = folder
                for part in above:
                    at = os.path.join(at, part)  # noqa: PTH118  # texts
                    if os.path.islink(at) or not os.path.isdir(at):  # noqa: PTH112, PTH114
                        break
                    found.setdefault(at, ("--bind", at, at))  # lest it is renamed, with what is held in it
                else:
                    at = os.path.join(at, last)  # noqa: PTH118
                found[at] = _mount(at)
        return [each for each in found.values() if each]

    def enter(self) -> list[int]:
        """Descriptors that are to be open while a command runs; `leave` with them."""
        opened: list[int] = []
        try:
            for folder in self._folders:
                opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                _share(opened[-1])
        except OSError:
            self.leave(opened)
            raise
        return opened

    def leave(self, opened: Sequence[int]) -> None:
        """Take the empty folders away, unless another command still runs there."""
        for descriptor in opened:
            with suppress(OSError):  # somebody else holds it, and will do it
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for name in self._names:
                    _remove_empty(descriptor, name)
            os.close(descriptor)


def _share(descriptor: int) -> None:
    """Lock it with the others. Where that can't be, since somebody else's program holds it, nothing waits for it."""
    for _ in range(_PATIENCE):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # whoever takes the folders away has it for a moment
            time.sleep(0.01)
        except OSError:  # a file system without locks
            return
        else:
            return


def _remove_empty(folder: int, name: str) -> None:
    """Remove an empty folder of that name, and those above it that are empty then."""
    for each in (name, *map(str, PurePath(name).parents))[:-1]:
        with suppress(OSError):  # it isn't there, or isn't empty
            os.rmdir(each, dir_fd=folder)


def _mount(path: str) -> Mount:
    if os.path.islink(path):  # noqa: PTH114  # no mount holds a link, and what it leads to may be hidden
        return ()
    if os.path.exists(path):  # noqa: PTH110
        return ("--ro-bind", path, path)
    if not os.access(os.path.dirname(path), os.W_OK):  # noqa: PTH120  # nobody can make it
        return ()
    return ("--tmpfs", path, "--remount-ro", path)
