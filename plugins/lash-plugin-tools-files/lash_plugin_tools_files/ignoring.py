"""What a `.gitignore` file says. Pure.

It is read as `git` reads it, without the classes of characters (`[[:alpha:]]`). Who asks about a folder before what is
in it needs to know no more than whether a rule fits that folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lash_plugin_tools_files.names import of_names

__all__ = ["Rules"]

_MOST = 2000
_LONGEST = 1000
_ENDED = re.compile(r"((?:\\.|[^\\])*?) *$", re.DOTALL)
"""A line, without the spaces at its end that no backslash keeps."""


class Rules:
    """The rules of one file, up to a limit; what can't be read is none. The last one that fits decides."""

    def __init__(self, text: str) -> None:
        found: list[tuple[list[str], bool, bool]] = []
        for line in text.removeprefix("\ufeff").split("\n"):
            rule = _rule(line.removesuffix("\r"))
            if rule is not None and len(found) < _MOST:
                found.append(rule)
        self._automaton = of_names([names for names, _, _ in found], escapes=True)
        ends = self._automaton.ends
        self._keeping = sum(end for end, (_, keeps, _) in zip(ends, found, strict=True) if keeps)
        self._folders = sum(end for end, (_, _, folders) in zip(ends, found, strict=True) if folders)

    def ignores(self, names: Sequence[str], *, is_folder: bool) -> bool | None:
        """Whether this is ignored, by its names from the file's folder on; None if nothing is said of it."""
        found = self._automaton.fits(names)
        if not is_folder:
            found &= ~self._folders
        return None if not found else not self._keeping >> (found.bit_length() - 1) & 1


def _rule(line: str) -> tuple[list[str], bool, bool] | None:
    """The names of its pattern, whether it takes back what others say, and whether it is for folders only."""
    found = _ENDED.match(line)
    if len(line) > _LONGEST or line.startswith("#") or found is None:
        return None
    text = found[1]
    keeps, text = text.startswith("!"), text.removeprefix("!")
    folders, text = text.endswith("/"), text.removesuffix("/")
    if not text:
        return None
    names = text.removeprefix("/").split("/") if "/" in text else ["**", text]
    try:
        of_names([names], escapes=True)
    except re.error:
        return None
    return names, keeps, folders
