"""Patterns of names, and of paths as rows of names. Pure.

A model writes patterns, `.gitignore` files and names of files. So nothing here tries twice what it tried before,
neither a `*` within a name nor a `**` among folders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from lash_hookspecs.automaton import Automaton, Exactly, Many, One, Piece

__all__ = ["end_of_set", "of_names"]

_WILD = frozenset("*?[\\")
_SET = re.compile(r"[!^]?+\]?+(?:\\.|[^\]\\])*+\]", re.DOTALL)


def of_names(patterns: Sequence[Sequence[str]], *, escapes: bool = False) -> Automaton[str]:
    """Patterns, each of them the names of a path: `*`, `?` and `[…]` are within a name, `**` is any number of names.

    `escapes`: whether a backslash takes away what the next character means. Raises `re.error` for a pattern that
    can't be read.
    """
    return Automaton([_pieces(each, escapes) for each in patterns])


def _pieces(pattern: Sequence[str], escapes: bool) -> list[Piece[str]]:
    """The names; behind a `**` at the end there is a name."""
    return [_piece(each, escapes) for each in (*pattern, *(("*",) if pattern[-1] == "**" else ()))]


def _piece(name: str, escapes: bool) -> Piece[str]:
    if name == "**":
        return Many()
    return Exactly(name) if _WILD.isdisjoint(name) else One(_name(name, escapes))


@lru_cache(maxsize=4096)  # so that what several patterns have in common is looked at once
def _name(pattern: str, escapes: bool) -> Callable[[str], object]:
    """What fits a name. Each `*` goes on to the first place of what is behind it: a later one is no better."""
    texts, at = [""], 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            texts.append("")
        elif char == "?":
            texts[-1] += "."
        elif char == "\\" and escapes:
            if at == len(pattern):
                raise re.error("it ends with a backslash")
            texts[-1] += re.escape(pattern[at])
            at += 1
        elif char == "[" and ((end := end_of_set(pattern, at, escapes=escapes)) > 0 or escapes):
            if end < 0:
                raise re.error("it has a bracket that isn't closed")
            inner = re.sub(r"([\[&|~])" if escapes else r"([\\\[&|~])", r"\\\1", pattern[at:end])
            texts[-1] += f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]"
            at = end + 1
        else:
            texts[-1] += re.escape(char)
    first, *others = texts
    last = [f".*{others.pop()}"] if others else []
    made = [first, *(f"(?>.*?{each})" for each in others if each), *last]
    return re.compile("".join(made), re.DOTALL).fullmatch


def end_of_set(pattern: str, at: int, *, escapes: bool = False) -> int:
    """Where the bracket is that closes a set; -1 if there is none."""
    if escapes:
        found = _SET.match(pattern, at)
        return found.end() - 1 if found else -1
    return pattern.find("]", at + 1 + (pattern[at : at + 1] in ("!", "^")))
