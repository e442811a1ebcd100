"""Walking through a folder, in the order of its paths, without what is ignored and without following a link."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import suppress

from lash_hookspecs.tools import ToolError
from lash_plugin_tools_files.beneath import folder, opened
from lash_plugin_tools_files.ignoring import Rules
from lash_plugin_tools_files.names import of_names
from lash_plugin_tools_files.options import FilesOptions
from lash_plugin_tools_files.passed import UNTOLD, Passed
from lash_plugin_tools_files.roots import Place, plain_name
from lash_plugin_tools_files.watch import Watch
from lash_plugin_tools_files.writing import TEMPORARY

__all__ = ["Ignores", "walk"]

Parts = tuple[str, ...]

_DEEPEST = 100
_MOST_RULES = 256 * 1024


class Ignores:
    """What searches that start at a place pass over: names, and what `.gitignore` files from there on down say.

    The files of the folders above count too, unless the place itself is ignored by them: who asks for it, gets it.
    """

    def __init__(self, start: Place, options: FilesOptions) -> None:
        self._start = start
        self._skip = of_names([[plain_name(each)] for each in options.skip])
        self._is_on = options.gitignore
        self._rules: dict[Parts, Rules | None] = {}
        self._from = 0
        if self._is_on and any(self._by_rules(start.parts[:size], True) for size in range(1, len(start.parts) + 1)):
            self._from = len(start.parts)

    def ignored(self, parts: Parts, *, is_folder: bool) -> bool:
        """Whether this is passed over, given that no folder above it is."""
        name = parts[-1]
        if self._skip.fits([plain_name(name)]) or name.startswith(TEMPORARY):
            return True
        return self._is_on and self._by_rules(parts, is_folder)

    def within_ignored(self, parts: Parts) -> bool:
        """Whether a file, or any folder from the start down to it, is passed over."""
        first = len(self._start.parts) + 1
        return any(self.ignored(parts[:size], is_folder=size < len(parts)) for size in range(first, len(parts) + 1))

    def _by_rules(self, parts: Parts, is_folder: bool) -> bool:
        for size in range(len(parts) - 1, self._from - 1, -1):
            rules = self._rules_of(parts[:size])
            said = rules.ignores(parts[size:], is_folder=is_folder) if rules is not None else None
            if said is not None:
                return said
        return False

    def _rules_of(self, parts: Parts) -> Rules | None:
        if parts not in self._rules:
            self._rules[parts] = self._read(parts)
        return self._rules[parts]

    def _read(self, parts: Parts) -> Rules | None:
        place = Place(self._start.root, (*parts, ".gitignore"), ".gitignore")
        with suppress(ToolError, OSError), opened(place) as fd:
            return Rules(os.read(fd, _MOST_RULES).decode(errors="surrogateescape"))
        return None


def walk(start: Place, ignores: Ignores, watch: Watch, passed: Passed) -> Generator[Parts, None, None]:
    """The regular files below a folder, each by its names from the start on. Raises `ToolError` if there is no folder.

    What can't be listed by now, or lies too deep, is passed over.
    """
    with folder(start) as fd:
        yield from _below(fd, start.parts, (), ignores, watch, passed)


def _below(
    fd: int, start: Parts, at: Parts, ignores: Ignores, watch: Watch, passed: Passed
) -> Generator[Parts, None, None]:
    with os.scandir(fd) as entries:
        found = sorted(
            (each.name, each.is_dir(follow_symlinks=False), each.is_file(follow_symlinks=False)) for each in entries
        )
    for name, is_folder, is_file in found:
        watch.glance()
        if ignores.ignored((*start, *at, name), is_folder=is_folder):
            passed.ignored += name not in UNTOLD
        elif is_file:
            yield (*at, name)
        elif not is_folder:
            passed.linked += 1
        elif len(at) >= _DEEPEST:
            passed.unreadable += 1
        else:
            try:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            except OSError:
                passed.unreadable += 1
                continue
            try:
                yield from _below(inner, start, (*at, name), ignores, watch, passed)
            finally:
                os.close(inner)
