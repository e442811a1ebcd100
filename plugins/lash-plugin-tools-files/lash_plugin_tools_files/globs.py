"""Patterns for paths: `*`, `?`, `[…]`, `{a,b}`, and `**` for any folders. Pure.

A pattern without a slash is for names in any folder, as models expect of `*.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from lash_plugin_tools_files.names import end_of_set, of_names
from lash_plugin_tools_files.refusals import invalid

__all__ = ["matcher"]

_MOST = 1000
_MOST_ALTERNATIVES = 200


@lru_cache(maxsize=64)
def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a path below the folder fits. Raises `ToolError` for a pattern that can't be read."""
    if not pattern or len(pattern) > _MOST:
        raise invalid("invalid_glob", f"a pattern has 1 to {_MOST} characters; `**/*` is for all files")
    pattern = pattern.removeprefix("./")
    if pattern.startswith("/"):
        raise invalid("invalid_glob", f"`{pattern}` begins with `/`: patterns start at `path`")
    whole = pattern if "/" in pattern else f"**/{pattern}"
    try:
        fits = of_names([each.split("/") for each in _alternatives(whole, pattern)]).fits
    except re.error as error:
        raise invalid("invalid_glob", f"`{pattern}` can't be read: {error}") from None
    return lambda path: fits(path.split("/")) != 0


# ---- braces ---------------------------------------------------------------------------------------------------------


def _alternatives(pattern: str, shown: str) -> list[str]:
    """The patterns without braces that it stands for."""
    found, waiting = [], [pattern]
    while waiting:
        each = waiting.pop()
        braces = _braces(each, shown)
        if braces is None:
            found.append(each)
        else:
            start, pieces, end = braces
            waiting += [each[:start] + piece + each[end:] for piece in pieces]
        if len(found) + len(waiting) > _MOST_ALTERNATIVES:
            raise invalid(
                "invalid_glob", f"`{shown}` stands for more than {_MOST_ALTERNATIVES} patterns: say it shorter"
            )
    return found


def _braces(pattern: str, shown: str) -> tuple[int, list[str], int] | None:
    """The first braces: where they begin, what is between their commas, and where they end."""
    depth = start = begin = at = 0
    pieces: list[str] = []
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "[" and (end := end_of_set(pattern, at)) > 0:
            at = end + 1
        elif char == "{" and "}" in pattern[at:]:
            depth += 1
            if depth == 1:
                start, begin = at - 1, at
        elif depth == 1 and char in ",}":
            pieces.append(pattern[begin : at - 1])
            begin = at
            if char == "}":
                return start, pieces, at
        elif char == "}" and depth:
            depth -= 1
    if depth:
        raise invalid("invalid_glob", f"`{shown}` has a brace that isn't closed")
    return None
