"""Patterns of names, arguments and paths. Pure.

A pattern that allows is read narrowly, one that asks or denies widely, so that what is written in an odd way falls on
the safe side. Narrow: letters are those that are written, and `*` stops where a shell would begin something else. Wide:
case, width, invisible characters, controls and the amount of blanks make no difference, and `*` stops nowhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache

from lash_hookspecs.automaton import Automaton, Exactly, Many, Maybe, One, Piece

__all__ = ["fits", "fits_plain", "name_matcher", "path_fits", "plain", "visible"]


def _in_a_command(character: str) -> bool:
    return character not in _COMMAND_ENDS


def _in_a_name(character: str) -> bool:
    return character != "/"


_COMMAND_ENDS = frozenset("\n\r\0;&|<>`$(){}\\!\u0085\u2028\u2029")
_ANY = Many[str]()

# Default_Ignorable_Code_Point in DerivedCoreProperties.txt of Unicode 15.1, code points kept for later ones among them.
_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_FORMATS = (  # the other ones of the category Cf
    "\u0600-\u0605\u06dd\u070f\u0890-\u0891\u08e2\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
)
_CONTROLS = "\\x00-\\x08\\x0e-\\x1b\\x7f-\\x84\\x86-\\x9f"  # those that are no blanks
_UNSEEN = re.compile(f"[{_IGNORABLE}{_FORMATS}{_CONTROLS}\u2800]")  # and the pattern of Braille that has no dots


def plain(text: str) -> str:
    """Text without what makes no difference to a reader."""
    return " ".join(unicodedata.normalize("NFKC", visible(text).casefold()).split())


def visible(text: str) -> str:
    """Text without what nobody sees, and in the usual width."""
    return _UNSEEN.sub("", unicodedata.normalize("NFKC", text))


def fits(pattern: str, text: str, *, narrow: bool) -> bool:
    """Whether the pattern fits the whole text."""
    if narrow:
        return bool(text_matcher(pattern, narrow=True).fits(text))
    return fits_plain(pattern, plain(text))


def fits_plain(pattern: str, text: str) -> bool:
    """Whether it fits, widely, a text that is plain already."""
    return bool(text_matcher(plain(pattern), narrow=False).fits(text))


def path_fits(pattern: str, path: str, *, narrow: bool) -> bool:
    """Whether the pattern, which is absolute, fits an absolute path; `*` within one folder, `**` also below it."""
    if narrow:
        return bool(path_matcher(pattern).fits(path))
    return bool(path_matcher(plain(pattern)).fits(plain(path)))


@lru_cache(maxsize=1024)
def text_matcher(pattern: str, *, narrow: bool) -> Automaton[str]:
    """What a pattern of names and arguments means. `narrow`: a single star, or `?`, ends where a command does."""
    return Automaton([_text(pattern, _in_a_command if narrow else None)])


@lru_cache(maxsize=1024)
def path_matcher(pattern: str) -> Automaton[str]:
    """What a pattern of paths means."""
    meant: dict[str, Piece[str]] = {
        "/**": Maybe((Exactly("/"), _ANY)),
        "**/": Maybe((_ANY, Exactly("/"))),
        "**": _ANY,
        "*": Many(_in_a_name),
        "?": One(_in_a_name),
    }
    return Automaton([_pieces(r"/\*\*\Z|\*\*/|\*\*|.", pattern, meant)])


@lru_cache(maxsize=1024)
def name_matcher(pattern: str) -> Automaton[str]:
    """What a plain pattern of names of arguments means widely: those, within any other one, and what is in them."""
    return Automaton([[Maybe((_ANY, Exactly("."))), *_text(pattern, None), Maybe((Exactly("."), _ANY))]])


def _text(pattern: str, takes: Callable[[str], bool] | None) -> list[Piece[str]]:
    return _pieces(r"\*\*|.", pattern, {"*": Many(takes), "?": One(takes), "**": _ANY})


def _pieces(parts: str, pattern: str, meant: Mapping[str, Piece[str]]) -> list[Piece[str]]:
    return [meant.get(each) or Exactly(each) for each in re.findall(parts, pattern, re.DOTALL)]
