"""Which of several patterns a path fits: all of them, and all places in each, are looked at together. Pure.

A model writes patterns, `.gitignore` files and names of files. So nothing here tries twice what it tried before,
neither a `*` within a name nor a `**` among folders: Python's `re`, given a whole path, would take years for some of
them, and hold up every other thread meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

__all__ = ["Automaton", "end_of_set"]

_REMEMBERED = 4096
_WILD = frozenset("*?[\\")
_SET = re.compile(r"[!^]?+\]?+(?:\\.|[^\]\\])*+\]", re.DOTALL)


class Automaton:
    """Patterns, each of them the names of a path: `*`, `?` and `[…]` are within a name, `**` is any number of names.

    `escapes`: whether a backslash takes away what the next character means. Raises `re.error` for a pattern that
    can't be read.
    """

    def __init__(self, patterns: Sequence[Sequence[str]], *, escapes: bool = False) -> None:
        # Bit n is set while all before the nth name has been found; behind the last name of a pattern is its end.
        self._starts = self._stars = at = 0
        ends: list[int] = []
        places: dict[str, int] = {}
        for pattern in patterns:
            self._starts |= 1 << at
            for name in _plain(pattern):
                if name == "**":
                    self._stars |= 1 << at
                else:
                    places[name] = places.get(name, 0) | 1 << at
                at += 1
            ends.append(1 << at)
            at += 1
        self.ends = tuple(ends)
        self._ends = sum(ends)
        self._starts |= (self._starts & self._stars) << 1
        self._exact = {name: bits for name, bits in places.items() if _WILD.isdisjoint(name)}
        self._wild = [(_name(each, escapes), bits) for each, bits in places.items() if each not in self._exact]
        self._fitting = lru_cache(maxsize=_REMEMBERED)(self._places)

    def fits(self, names: Sequence[str]) -> int:
        """The `ends` of those that fit, a bit for each, in their order; 0 if there is none."""
        here = self._starts
        for name in names:
            here = (here & self._fitting(name)) << 1 | here & self._stars
            here |= (here & self._stars) << 1
            if not here:
                return 0
        return here & self._ends

    def _places(self, name: str) -> int:
        found = self._exact.get(name, 0)
        for fits, bits in self._wild:
            if fits(name):
                found |= bits
        return found


def _plain(pattern: Sequence[str]) -> list[str]:
    """No two `**` one after the other, and something behind the last one."""
    found: list[str] = []
    for name in pattern:
        if name != "**" or found[-1:] != ["**"]:
            found.append(name)
    return [*found, "*"] if found[-1] == "**" else found


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
