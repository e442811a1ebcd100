"""Patterns of names, arguments and paths. Pure.

A pattern that allows is read narrowly, one that asks or denies widely, so that what is written in an odd way falls on
the safe side. Narrow: letters are those that are written, and `*` stops where a shell would begin something else. Wide:
case, width, invisible characters and the amount of blanks make no difference, and `*` stops nowhere.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from lash_plugin_approval.matching import ANY, Matcher, Piece

__all__ = ["fits", "path_fits", "plain"]

_ONE_COMMAND = frozenset("\n\r\0;&|<>`$(){}\\!\u0085\u2028\u2029")
_ONE_NAME = frozenset("/")


def plain(text: str) -> str:
    """Text without what makes no difference to a reader."""
    seen = "".join(each for each in unicodedata.normalize("NFKC", text) if unicodedata.category(each) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen.casefold()).split())


def fits(pattern: str, text: str, *, narrow: bool) -> bool:
    """Whether the pattern fits the whole text."""
    if narrow:
        return text_matcher(pattern, narrow=True).fits(text)
    return text_matcher(plain(pattern), narrow=False).fits(plain(text))


def path_fits(pattern: str, path: str, *, narrow: bool) -> bool:
    """Whether the pattern, which is absolute, fits an absolute path; `*` within one folder, `**` also below it."""
    if narrow:
        return path_matcher(pattern).fits(path)
    return path_matcher(plain(pattern)).fits(plain(path))


@lru_cache(maxsize=1024)
def text_matcher(pattern: str, *, narrow: bool) -> Matcher:
    """What a pattern of names and arguments means. `narrow`: a single star, or `?`, ends where a command does."""
    but = _ONE_COMMAND if narrow else frozenset[str]()
    meant = {"*": Piece("some", but), "?": Piece("one", but), "**": ANY}
    return Matcher(meant.get(each) or Piece("one", only=each) for each in re.findall(r"\*\*|.", pattern, re.DOTALL))


@lru_cache(maxsize=1024)
def path_matcher(pattern: str) -> Matcher:
    """What a pattern of paths means."""
    pieces = re.findall(r"/\*\*\Z|\*\*/|\*\*|.", pattern, re.DOTALL)
    meant = {
        "/**": Piece("below"),
        "**/": Piece("above"),
        "**": ANY,
        "*": Piece("some", _ONE_NAME),
        "?": Piece("one", _ONE_NAME),
    }
    return Matcher(meant.get(each) or Piece("one", only=each) for each in pieces)
