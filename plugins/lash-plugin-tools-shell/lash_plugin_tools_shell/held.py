"""What a command in the sandbox can neither change nor make: what programs outside read by themselves, and obey.

An empty folder is made where a name isn't there, for as long as a command of any process runs in that root. Its mode
says that it is ours: whoever finds none running takes it away, also what a killed process had made, and nobody else's.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import PurePath

from lash_hookspecs.programs import is_below

__all__ = ["Held", "Mount"]

Mount = tuple[str, ...]

_PATIENCE = 50

_OURS = stat.S_ISVTX | stat.S_IRWXU
"""A folder of one user with the bit that is for shared ones: nobody else makes such a thing."""


class Held:
    """These names below each of these folders, and what is `kept` of them wherever it is; all are without links."""

    def __init__(self, folders: Sequence[str], names: Sequence[str], kept: Sequence[str] = ()) -> None:
        self._folders = tuple(dict.fromkeys(folders))
        paths = {PurePath(os.path.normpath(each)): None for each in names}
        highest = [each for each in paths if not any(above in paths for above in each.parents)]
        self._names = list(map(str, highest))
        self._kept = [
            (folder, os.path.relpath(each, folder))
            for folder in self._folders
            for each in kept
            if is_below(each, folder) and each != folder
        ]
        parts = {each for path in highest for each in (path, *path.parents) if each.name}
        self._parts = [str(each) for each in sorted(parts, key=lambda each: len(each.parts), reverse=True)]

    def enter(self, hidden: Sequence[str], writable: Sequence[str] = ()) -> tuple[list[int], list[Mount]]:
        """Make what isn't there, for a command: descriptors that are to be open while it runs, and its mounts.

        Each mount ends with where it is. bubblewrap runs nothing if what was made is taken away meanwhile. What is
        mounted over these, as `hidden` is, needs no mount. What is `hidden` or `writable` below these folders stays
        where it is: a folder can be renamed with a mount in it, and the next command would have neither there.
        """
        opened, mounts = list[int](), dict[str, Mount]()
        try:
            for folder in self._folders:
                opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                _share(opened[-1])
            for above, path in list(self._places(hidden)):  # a part that is made for one name is missing for all
                with suppress(FileExistsError):
                    os.mkdir(path, _OURS)  # noqa: PTH102
                for each in above:
                    mounts.setdefault(each, ("--bind", each, each))  # lest it is renamed, with what is held in it
                mounts[path] = ("--ro-bind", path, path)
        except OSError:
            self.leave(opened)
            raise
        for path in self._above((*hidden, *writable), hidden):
            mounts.setdefault(path, ("--bind", path, path))
        held = [path for path, (how, *_) in mounts.items() if how == "--ro-bind"]
        return opened, [
            mount
            for path, mount in mounts.items()
            if path in held or not any(is_below(path, each) for each in held)  # it would be written again
        ]

    def _above(self, paths: Sequence[str], hidden: Sequence[str]) -> Iterator[str]:
        """The folders between ours and these paths."""
        for folder in self._folders:
            for path in paths:
                above = os.path.dirname(path)  # noqa: PTH120
                while is_below(above, folder) and above != folder:
                    if above not in self._folders and not self._is_hidden(above, hidden):
                        yield above
                    above = os.path.dirname(above)  # noqa: PTH120

    def leave(self, opened: Sequence[int]) -> None:
        """Take our empty folders away, unless another command still runs there."""
        for descriptor in opened:
            with suppress(OSError):  # somebody else holds it, and will do it
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for part in self._parts:
                    _remove_ours(descriptor, part)
            os.close(descriptor)

    def _places(self, hidden: Sequence[str]) -> Iterator[tuple[list[str], str]]:
        """The folders on the way to each name, and what is to be there: itself, or the first part that is missing."""
        named = [(folder, name) for folder in self._folders for name in self._names]
        for folder, name in (*named, *self._kept):
            *parts, last = PurePath(name).parts
            above, at = list[str](), folder
            for part in parts:
                at = os.path.join(at, part)  # noqa: PTH118  # texts
                if os.path.islink(at) or not os.path.isdir(at):  # noqa: PTH112, PTH114
                    break
                above.append(at)
            else:
                at = os.path.join(at, last)  # noqa: PTH118
            if _can_be_held(at) and not self._is_hidden(at, hidden) and self._is_looked_at(folder, name):
                yield [each for each in above if not self._is_hidden(each, hidden)], at

    def _is_hidden(self, path: str, hidden: Sequence[str]) -> bool:
        """Whether what is mounted last over it hides it: a folder of ours within a hidden one is seen again."""
        return max((each for each in (*hidden, *self._folders) if is_below(path, each)), key=len) not in self._folders

    def _is_looked_at(self, folder: str, name: str) -> bool:
        """Whether git looks at a `HEAD`, which makes the folder a repository: not where it has one of its own, that is
        held. With that, a second `HEAD` would make each `git diff HEAD` ambiguous."""
        own = os.path.join(folder, ".git")  # noqa: PTH118
        return name != "HEAD" or ".git" not in self._names or not _is_repository(own)


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


def _remove_ours(folder: int, name: str) -> None:
    """Remove an empty folder of that name, if it is ours."""
    with suppress(OSError):  # it isn't there
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode) and stat.S_IMODE(mode) & ~stat.S_ISGID == _OURS:  # that bit is passed on by folders
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError:  # somebody has put something in it, and so made it theirs
                os.chmod(name, stat.S_IRWXU, dir_fd=folder)


def _can_be_held(path: str) -> bool:
    """No mount holds a link, and what it leads to may be hidden; and what nobody can make needs none."""
    if os.path.islink(path):  # noqa: PTH114
        return False
    return os.path.exists(path) or os.access(os.path.dirname(path), os.W_OK)  # noqa: PTH110, PTH120


def _is_repository(path: str) -> bool:
    """Whether git takes it for one, or refuses it, and so doesn't look at the folder that it is in."""
    if os.path.islink(path):  # noqa: PTH114  # it isn't held
        return False
    whole = all(os.path.exists(os.path.join(path, each)) for each in ("HEAD", "objects", "refs"))  # noqa: PTH110, PTH118
    return whole or os.path.isfile(path)  # noqa: PTH113
