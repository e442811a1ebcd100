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

_BETWEEN_STARS = re.compile(r"\[\^/\]\*((?:[^/\[(.]|\\.|\[\^/\](?!\*))+)(?=\[\^/\]\*)")
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
    """As `fnmatch` has it: a star goes on to the first place of what is behind it, and never tries another one.

    A later place is no better, since the next star goes as far; and with several stars, trying all of them takes a
    model's long text for ever. (Where `*` is behind `**`, a later one might be: that is read narrowly, too.)
    """
    first, *pieces = re.split(r"(\*\*|\*)", pattern)
    stars = [".*?" if each == "**" else f"{character}*?" for each in pieces[::2]]
    texts = [_fixed(each, character) for each in pieces[1::2]]
    made = [f"(?>{star}{text})" for star, text in zip(stars[:-1], texts[:-1], strict=True)]
    made += [f"{star}{text}" for star, text in zip(stars[-1:], texts[-1:], strict=True)]
    return re.compile("".join([_fixed(first, character), *made]), re.DOTALL)


def _fixed(text: str, character: str) -> str:
    return "".join(character if each == "?" else re.escape(each) for each in text)


@lru_cache(maxsize=1024)
def _path(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"(/\*\*$|\*\*/|\*\*|\*|\?)", pattern)
    meant = {"/**": "(?:/.*)?", "**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    made = "".join(meant.get(each, re.escape(each)) for each in pieces)
    # A star with another one behind it in the same name: the first place of what is between them is as good as any.
    return re.compile(_BETWEEN_STARS.sub(r"(?>[^/]*?\1)", made), re.DOTALL)
