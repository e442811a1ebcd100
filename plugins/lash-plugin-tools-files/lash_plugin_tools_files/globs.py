"""Patterns for paths: `*`, `?`, `[…]`, `{a,b}`, and `**` for any folders. Pure.

A pattern without a slash is for names in any folder, as models expect of `*.py`. A model writes patterns, and names of
files: so nothing here tries twice what it tried before, neither a `*` within a name nor a `**` among folders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from lash_plugin_tools_files.refusals import invalid

__all__ = ["matcher"]

_MOST = 1000
_MOST_ALTERNATIVES = 200

Fits = Callable[[str], object]
Wanted = Sequence[Fits | None]
"""What the names of a path fit, one after the other; None is any number of them."""


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
        found = [_wanted(each) for each in _alternatives(whole, pattern)]
    except re.error as error:
        raise invalid("invalid_glob", f"`{pattern}` can't be read: {error}") from None
    return lambda path: any(_fit(names, each) for names in [path.split("/")] for each in found)


# ---- folders --------------------------------------------------------------------------------------------------------


def _wanted(pattern: str) -> Wanted:
    names = pattern.split("/")
    found = [None if each == "**" else _name(each) for each in names]
    return [*found, _name("*")] if names[-1] == "**" else found


def _fit(names: Sequence[str], wanted: Wanted) -> bool:
    """Whether all names fit. The last ones come first, since they mostly decide."""
    end, last = len(names), len(wanted)
    while last and (fits := wanted[last - 1]) is not None:
        if not end or not fits(names[end - 1]):
            return False
        last, end = last - 1, end - 1
    at = here = 0
    again: tuple[int, int] | None = None  # behind the latest `**`; an earlier one can do nothing that it can't
    while at < end:
        fits = wanted[here] if here < last else _nothing
        if fits is None:
            here += 1
            again = at, here
        elif fits(names[at]):
            at, here = at + 1, here + 1
        elif again is None:
            return False
        else:
            again = again[0] + 1, again[1]
            at, here = again
    return all(each is None for each in wanted[here:last])


def _nothing(name: str) -> bool:
    return False


# ---- names ----------------------------------------------------------------------------------------------------------


def _name(pattern: str) -> Fits:
    """What fits a name. Each `*` goes on to the first place of what is behind it: a later one is no better."""
    texts, at = [""], 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            texts.append("")
        elif char == "?":
            texts[-1] += "."
        elif char == "[" and (end := _end_of_set(pattern, at)) > 0:
            inner = re.sub(r"([\\\[&|~])", r"\\\1", pattern[at:end])
            texts[-1] += f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]"
            at = end + 1
        else:
            texts[-1] += re.escape(char)
    first, *others = texts
    last = [f".*{others.pop()}"] if others else []
    made = [first, *(f"(?>.*?{each})" for each in others if each), *last]
    return re.compile("".join(made), re.DOTALL).fullmatch


def _end_of_set(pattern: str, at: int) -> int:
    """Where the bracket is that closes a set; -1 if there is none."""
    return pattern.find("]", at + 1 + (pattern[at : at + 1] in ("!", "^")))


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
        if char == "[" and (end := _end_of_set(pattern, at)) > 0:
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
