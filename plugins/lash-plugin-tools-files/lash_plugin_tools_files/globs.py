"""Patterns for paths: `*`, `?`, `[…]`, `{a,b}`, and `**` for any folders. Pure.

A pattern without a slash is for names in any folder, as models expect of `*.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from lash_plugin_tools_files.refusals import invalid

__all__ = ["matcher"]

_MOST = 1000


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
        fits = re.compile(_translated(whole, pattern), re.DOTALL).fullmatch
    except re.error as error:
        raise invalid("invalid_glob", f"`{pattern}` can't be read: {error}") from None
    return lambda path: fits(path) is not None


def _translated(pattern: str, shown: str) -> str:
    made, at, open_braces, size = [], 0, 0, len(pattern)
    while at < size:
        char = pattern[at]
        at += 1
        if pattern.startswith("**/", at - 1) and (at == 1 or pattern[at - 2] == "/"):
            while pattern.startswith("**/", at - 1):  # one is as good as many, and quicker
                at += 3
            at -= 1
            made.append("(?:[^/]+/)*+")
        elif char == "*" and pattern[at - 1 :] == "**" and (at == 1 or pattern[at - 2] == "/"):
            at += 1
            made.append(".+")
        elif char == "*":
            while at < size and pattern[at] == "*":
                at += 1
            made.append("[^/]*")
        elif char == "?":
            made.append("[^/]")
        elif char == "[" and (end := pattern.find("]", at + 1 + (pattern[at : at + 1] in "!^"))) > 0:
            inner = pattern[at:end].replace("\\", "\\\\").replace("[", "\\[")
            made.append(f"(?!/)[{'^' + inner[1:] if inner[0] in '!^' else inner}]")
            at = end + 1
        elif char == "{" and "}" in pattern[at:]:
            open_braces += 1
            made.append("(?:")
        elif char == "}" and open_braces:
            open_braces -= 1
            made.append(")")
        elif char == "," and open_braces:
            made.append("|")
        else:
            made.append(re.escape(char))
    if open_braces:
        raise invalid("invalid_glob", f"`{shown}` has a brace that isn't closed")
    return "".join(made)
