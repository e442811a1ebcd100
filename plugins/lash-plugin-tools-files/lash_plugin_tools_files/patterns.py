"""Patterns as models write them: Python's, matched line by line, within a time limit.

The module `regex` matches them, since Python's own can't be stopped: a pattern that tries for ever would hold up the
whole process. What `regex` alone understands is taken as the plain characters that it is for Python.
"""

from __future__ import annotations

import re
from typing import Any

from lash_plugin_tools_files.prefilter import Prefilter, prefilter
from lash_plugin_tools_files.refusals import invalid

__all__ = ["LinePattern"]

_MOST = 2000
_COUNT = re.compile(r"\{(?:\d+|\d*,\d*)\}")
_DOUBLED = re.compile(r"&&|\|\||~~")


class LinePattern:
    """A pattern to look for in lines. Raises `ToolError` if it can't be read."""

    def __init__(self, pattern: str, *, ignore_case: bool = False, literal: bool = False) -> None:
        if not pattern or len(pattern) > _MOST:
            raise invalid("invalid_pattern", f"`pattern` has 1 to {_MOST} characters")
        import regex  # type: ignore[import-untyped]  # it takes as long to load as all else here

        text = re.escape(pattern) if literal else _plain(pattern)
        try:
            re.compile(text)
            flags = regex.IGNORECASE if ignore_case else 0
            self._search: Any = regex.compile(text, flags | regex.VERSION0).search
        except (re.error, regex.error, OverflowError, RecursionError) as error:
            raise invalid(
                "invalid_pattern",
                f"`{pattern}` is no regular expression of Python's: {error}; `literal` takes it as text",
            ) from None
        self.first: Prefilter | None = prefilter(text, ignore_case=ignore_case)

    def matches(self, line: str, limit_s: float) -> bool:
        """Whether the line has a match. Raises `TimeoutError` after so many seconds."""
        return self._search(line, timeout=limit_s) is not None


def _plain(pattern: str) -> str:
    """The same for Python, with a backslash before what means more to `regex`: fuzzy counts, sets within sets."""
    made, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            made.append(pattern[at : at + 2])
            at += 2
        elif char == "{" and not _COUNT.match(pattern, at):
            made.append(r"\{")
            at += 1
        elif char == "[":
            end = _end_of_set(pattern, at)
            made.append(_plain_set(pattern[at:end], pattern))
            at = end
        else:
            made.append(char)
            at += 1
    return "".join(made)


def _end_of_set(pattern: str, at: int) -> int:
    """Behind the bracket that closes the set; the end of the pattern if there is none, which is an error later on."""
    at += 2 if pattern.startswith("[^", at) else 1
    at += pattern.startswith("]", at)
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return min(at + 1, len(pattern))


def _plain_set(text: str, pattern: str) -> str:
    if "--" in text:
        raise invalid("invalid_pattern", f"`{pattern}`: in a set, write `\\-` for the character `-`")
    made = re.sub(r"(\\.)|(\[)", lambda found: found[1] or r"\[", text[1:], flags=re.DOTALL)
    return "[" + _DOUBLED.sub(lambda found: f"{found[0][0]}\\{found[0][1]}", made)
