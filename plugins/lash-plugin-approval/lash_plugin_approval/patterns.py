"""Patterns of names, arguments and paths. Pure.

A pattern that allows is read narrowly, one that asks or denies widely, so that what is written in an odd way falls on
the safe side. Narrow: letters are those that are written, and `*` stops where a shell would begin something else. Wide:
case, width, invisible characters and the amount of blanks make no difference, and `*` stops nowhere.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = ["fits", "path_fits", "plain"]

_ONE_COMMAND = r"[^\n\r\0;&|<>`$(){}\\!\u0085\u2028\u2029]"


def plain(text: str) -> str:
    """Text without what makes no difference to a reader."""
    seen = "".join(each for each in unicodedata.normalize("NFKC", text) if unicodedata.category(each) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen.casefold()).split())


def fits(pattern: str, text: str, *, narrow: bool) -> bool:
    """Whether the pattern fits the whole text."""
    if narrow:
        return _compiled(pattern, _ONE_COMMAND).fullmatch(text) is not None
    return _compiled(plain(pattern), ".").fullmatch(plain(text)) is not None


def path_fits(pattern: str, path: str, *, narrow: bool) -> bool:
    """Whether the pattern, which is absolute, fits an absolute path; `*` within one folder, `**` also below it."""
    if narrow:
        return _path(pattern).fullmatch(path) is not None
    return _path(plain(pattern)).fullmatch(plain(path)) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str, character: str) -> re.Pattern[str]:
    pieces = re.split(r"(\*\*|\*|\?)", pattern)
    meant = {"**": "(?:.|\n)*", "*": f"{character}*", "?": character}
    return re.compile("".join(meant.get(each, re.escape(each)) for each in pieces), re.DOTALL)


@lru_cache(maxsize=1024)
def _path(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"(/\*\*$|\*\*/|\*\*|\*|\?)", pattern)
    meant = {"/**": "(?:/.*)?", "**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meant.get(each, re.escape(each)) for each in pieces), re.DOTALL)
