"""From a path that a model says to a root and the names below it. No file is looked at here.

No symbolic link below a root is ever followed (see `beneath`), so `..` may be taken away from the text of a path: what
is left means the same.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from lash_hookspecs.errors import ConfigurationError
from lash_plugin_tools_files.refusals import invalid, refused

__all__ = ["Place", "Root", "Roots", "plain_name"]

Parts = tuple[str, ...]

_LONGEST = 4096
"""In bytes. What has a longer path could be made, name by name, but no other program could reach it."""


_UNTOLD = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def told(path: str) -> str:
    """A path on one line, of characters that can be stored: all else in it is an escape, as `\\n` is."""
    return _UNTOLD.sub(lambda found: found[0].encode("unicode_escape").decode(), path)


def plain_name(name: str) -> str:
    """The same for all names that some file system takes for one: without case, forms, and what nobody sees."""
    if name.isascii():
        return name.casefold()
    seen = (each for each in unicodedata.normalize("NFKC", name) if unicodedata.category(each) not in ("Cf", "Mn"))
    return unicodedata.normalize("NFKC", "".join(seen).casefold())


class Root(NamedTuple):
    """A folder whose files may be used: its absolute path, its names, as configured and without links, and which it is.

    A link in its path counts as what it led to when the plugin was set up.
    """

    path: str
    spelt: Parts
    real: Parts
    identity: tuple[int, int]


class Place(NamedTuple):
    """Something below a root, whether it is there or not. `shown` is how models are told of it."""

    root: Root
    parts: Parts
    shown: str

    def child(self, *names: str) -> Place:
        """What has these names below it."""
        below = told("/".join(names))
        shown = below if self.shown == "." else f"{self.shown.rstrip('/')}/{below}"
        return Place(self.root, (*self.parts, *names), shown)


class Roots:
    """The folders that may be used. The first is where relative paths start."""

    def __init__(self, folders: Sequence[str]) -> None:
        made = []
        for folder in folders:
            path = os.path.abspath(os.path.expanduser(folder))  # noqa: PTH100, PTH111  # no link is resolved here
            if not os.path.isdir(path):  # noqa: PTH112
                raise ConfigurationError(
                    f"`plugin.tools-files.roots`: there is no folder `{folder}` ({path}): make it, or name another one"
                )
            real = os.path.realpath(path)
            found = os.stat(real)  # noqa: PTH116  # no `Path` is needed here
            made.append(Root(path, _names(path), _names(real), (found.st_dev, found.st_ino)))
        self.all: tuple[Root, ...] = tuple(made)

    def place(self, given: str) -> Place:
        """Where a path is. Raises `ToolError` for what is outside of all roots, and for what is no path."""
        if not given:
            raise invalid("invalid_path", "the path is empty; `.` is the folder itself")
        if "\0" in given:
            raise invalid("invalid_path", f"{given!r} is no path: it has a NUL character")
        try:
            if len(os.fsencode(given)) > _LONGEST:
                raise invalid("invalid_path", f"a path of {len(given):,} characters is too long")
        except UnicodeEncodeError:
            raise invalid("invalid_path", f"{given!r} is no path: it can't be encoded") from None
        names = _names(given) if given.startswith("/") else _names("/".join(("", *self.all[0].spelt, given)))
        best: tuple[int, Root] | None = None
        for root in self.all:
            for prefix in (root.spelt, root.real):
                if names[: len(prefix)] == prefix and (best is None or len(prefix) > best[0]):
                    best = len(prefix), root
        if best is None:
            raise refused("outside_root", f"`{given}` is outside of the folders that may be used: {self.listed}")
        size, root = best
        return self._place(root, names[size:])

    def _place(self, root: Root, parts: Parts) -> Place:
        shown = "/".join(parts) or "."
        return Place(root, parts, told(shown if root is self.all[0] else "/".join((root.path, *parts))))

    @property
    def listed(self) -> str:
        """Their paths, for people."""
        return ", ".join(f"`{root.path}`" for root in self.all)


def _names(path: str) -> Parts:
    """The names of an absolute path, without `.` and `..`."""
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            del names[-1:]
        elif name not in ("", "."):
            names.append(name)
    return tuple(names)
