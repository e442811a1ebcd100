"""From a pattern of Python's to one of ripgrep's that finds at least as much. Pure.

The two languages differ in what `\\w` is, in case, in lookarounds and more. So ripgrep only says which files may have a
match, and Python's pattern decides. What isn't known here is replaced by something that finds more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["Prefilter", "prefilter"]

_ANY = r"(?:.|(?-u:[\x80-\xFF]))"
"""One character of a line, or one byte that is no UTF-8."""

_ALSO = {"i": "İı", "k": "\u212a", "s": "ſ"}
"""What Python takes for the other case of an ASCII letter, besides its own."""

_BEGINNINGS = ("AT_BEGINNING", "AT_BEGINNING_STRING")
_ENDS = ("AT_END", "AT_END_STRING")
_MOST_REPEATS = 100
_MOST_IN_RANGE = 128


class Prefilter:
    """`pattern` is ripgrep's. `needle`, where there is one, is in every line that matches."""

    def __init__(self, pattern: str, needle: bytes | None) -> None:
        self.pattern = pattern
        self.needle = needle


def prefilter(pattern: str, *, ignore_case: bool = False) -> Prefilter | None:
    """What to look for first; None if nothing is known of the pattern, so that every file has to be looked at."""
    try:
        from re import _parser  # type: ignore[attr-defined]  # the only parser of Python's own patterns

        tree = _parser.parse(pattern, re.IGNORECASE if ignore_case else 0)
        case = bool(tree.state.flags & re.IGNORECASE)
        items = _items(tree)
        made = "".join(_piece(name, given, case) for name, given in items)
        # Elsewhere an edge is dropped: Python's lines have no mark of byte order, and no carriage return at the end.
        if items and items[0][0] == "AT" and str(items[0][1]) in _BEGINNINGS:
            made = rf"(?m:^)\x{{feff}}?{made}"
        if items and items[-1][0] == "AT" and str(items[-1][1]) in _ENDS:
            made = rf"{made}\r?(?m:$)"
        return Prefilter(made, None if case else _needle(tree))
    except (ImportError, AttributeError, RecursionError, _Unknown):
        return None


class _Unknown(Exception):
    """A piece that nothing is known of."""


def _items(tree: Any) -> Sequence[tuple[str, Any]]:
    return [(str(op), given) for op, given in tree]


def _piece(name: str, given: Any, case: bool) -> str:
    match name:
        case "LITERAL":
            return _literal(given, case)
        case "NOT_LITERAL" | "ANY" | "CATEGORY":
            return _ANY
        case "IN":
            return _set(given, case)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, inner = given
            made = _group("".join(_piece(each, what, case) for each, what in _items(inner)))
            if most > _MOST_REPEATS:
                return f"{made}{{{min(least, _MOST_REPEATS)},}}"
            return f"{made}{{{least},{most}}}"
        case "SUBPATTERN":
            _, on, off, inner = given
            case = (case or bool(on & re.IGNORECASE)) and not off & re.IGNORECASE
            return _group("".join(_piece(each, what, case) for each, what in _items(inner)))
        case "ATOMIC_GROUP":
            return _group("".join(_piece(each, what, case) for each, what in _items(given)))
        case "BRANCH":
            _, branches = given
            return _group("|".join("".join(_piece(each, what, case) for each, what in _items(one)) for one in branches))
        case "GROUPREF":
            return f"{_ANY}*"
        case "ASSERT" | "ASSERT_NOT" | "AT":
            return ""
        case _:
            raise _Unknown


def _group(inner: str) -> str:
    return f"(?:{inner})"


def _literal(code: int, case: bool) -> str:
    char = chr(code)
    if char == "\n":
        raise _Unknown  # no line has one: Python finds nothing, and says so
    if case and (not char.isascii() or char.lower() in _ALSO or char.isalpha()):
        if not char.isascii():
            return _ANY
        small = char.lower()
        return f"[{small}{small.upper()}{_ALSO.get(small, '')}]"
    return _escaped(code)


def _escaped(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        return _ANY  # half a character: a byte that was no UTF-8
    return rf"\x{{{code:x}}}"


def _set(members: list[tuple[Any, Any]], case: bool) -> str:
    """`[…]`, as what it has for certain; anything where that isn't known."""
    made = []
    for op, given in members:
        match str(op):
            case "LITERAL" if given != 10 and not 0xD800 <= given <= 0xDFFF:
                piece = _literal(given, case)
                if piece == _ANY:
                    return _ANY
                made.append(piece.strip("[]"))
            case "RANGE":
                low, high = given
                if case and (high > 127 or high - low > _MOST_IN_RANGE):
                    return _ANY
                if low <= 10 <= high or (low <= 0xDFFF and high >= 0xD800):
                    return _ANY
                if case:
                    made += [_literal(code, True).strip("[]") for code in range(low, high + 1)]
                else:
                    made.append(f"{_escaped(low)}-{_escaped(high)}")
            case "CATEGORY" if str(given) == "CATEGORY_DIGIT":
                made.append(r"\d\p{N}")
            case "CATEGORY" if str(given) == "CATEGORY_SPACE":
                made.append(r"\s\x{1c}-\x{1f}")
            case "CATEGORY" if str(given) == "CATEGORY_WORD":
                made.append(r"\w\p{L}\p{N}")
            case _:
                return _ANY
    return f"[{''.join(made)}]" if made else _ANY


def _needle(tree: Any) -> bytes | None:
    """The longest text that every match has."""
    best, run = "", ""
    for name, given in [*_items(tree), ("END", None)]:
        if name == "LITERAL":
            run += chr(given)
        else:
            best, run = max(best, run, key=len), ""
    try:
        return best.encode() or None
    except UnicodeEncodeError:
        return None
