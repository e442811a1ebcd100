"""A call as rules look at it: its arguments one by one, and where the paths among them lead."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import unquote

from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.values import frozen
from lash_plugin_approval.patterns import path_fits, visible

__all__ = [
    "MOST_DEEP",
    "MOST_LEAVES",
    "MOST_NAMED",
    "MOST_PLACES",
    "Facts",
    "Place",
    "has_too_many",
    "is_too_deep",
    "leaves",
    "parts_of",
    "places",
    "places_of",
    "readings_of",
]


@frozen(kw_only=True)
class Place:
    """Where a path argument leads: as it is written, and behind all links. `is_odd`: not every tool reads it alike.

    `passed` is what it becomes on the way, link by link.
    """

    argument: str
    written: str
    real: str
    is_odd: bool
    passed: tuple[str, ...] = ()

    def within(self, patterns: Iterable[str], *, narrow: bool) -> bool:
        """Whether it fits one of them: narrowly in every reading, widely in any."""
        if narrow:
            read = (self.written, self.real)
            return not self.is_odd and any(
                all(path_fits(each, path, narrow=True) for path in read) for each in patterns
            )
        ways = tuple(dict.fromkeys((self.written, *self.passed, self.real)))
        return any(path_fits(each, path, narrow=False) for each in patterns for path in ways)


@frozen(kw_only=True)
class Facts:
    """What rules are held against.

    `spent` is what the session has cost before this turn, in dollars; `at_least`: that, and nobody knows how much more.
    """

    tool: str
    owner: str
    effect: str
    args: Mapping[str, Any]
    leaves: Mapping[str, Any]
    places: tuple[Place, ...]
    spent: float = 0.0
    at_least: bool = False

    @property
    def digest(self) -> str:
        """The same for the same call of the same plugin's tool, and for no other one."""
        return stable_hash("lash-plugin-approval", [self.owner, self.tool, dict(self.args)])


MOST_LEAVES = 2000
"""So many arguments a call may have, with all that are in tables and arrays. Who has more isn't called at all."""

MOST_NAMED = 100_000
"""So many characters their names may have together: a long one counts again for each argument below it."""


def leaves(args: Mapping[str, Any]) -> dict[str, str]:
    """Arguments by name, those in tables and arrays by their path (`edits.0.path`); all as text, each by its own name.

    "" is the name of an argument without one. Where there are more than there may be, it ends with the first of those.
    """
    found: dict[str, str] = {}
    named = 0
    for name, text in _leaves(args, None):
        found[name] = text
        named += len(name)
        if len(found) > MOST_LEAVES or named > MOST_NAMED:
            break
    return found


def has_too_many(found: Mapping[str, str]) -> bool:
    """Whether there are more leaves than there may be."""
    return len(found) > MOST_LEAVES or sum(map(len, found)) > MOST_NAMED


def _leaves(value: Any, name: str | None) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and (value or name is None):
        for key, each in value.items():
            part = str(key).replace("\\", "\\\\").replace(".", "\\.")
            yield from _leaves(each, part if name is None else f"{name}.{part}")
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and value:
        for at, each in enumerate(value):
            yield from _leaves(each, f"{name}.{at}")
    else:
        yield name or "", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


_PART = re.compile(r"(?:\\.|[^.\\])+")


def parts_of(name: str) -> list[str]:
    """The path of an argument, as `leaves` writes it, in parts."""
    return _PART.findall(name)


MOST_DEEP = 50
"""So many tables and arrays may be in each other. Who nests more isn't called at all."""


def is_too_deep(args: Mapping[str, Any]) -> bool:
    """Whether more are nested than may be."""
    level: list[Any] = [args]
    for _ in range(MOST_DEEP + 2):
        level = [each for value in level for each in _members(value)]
        if not level:
            return False
    return True


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def _absolute(path: str, root: str) -> str:
    """A path as it is written, made absolute; no link is followed."""
    return os.path.normpath(_joined(path, root))


def _joined(path: str, root: str) -> str:
    return os.path.join(root, os.path.expanduser(path))  # noqa: PTH111, PTH118  # texts, not files


def readings_of(pattern: str, root: str, *, narrow: bool) -> tuple[str, ...]:
    """A pattern of paths, made absolute; widely also behind the links in what stands before its first star."""
    written = _absolute(pattern, root)
    if narrow:
        return (written,)
    fixed = re.split(r"[^/]*[*?]", _joined(pattern, root), maxsplit=1)[0]
    rest = _joined(pattern, root)[len(fixed) :]
    real = os.path.realpath(fixed)
    found = (os.path.normpath(f"{each}/{rest}") for each in (*_passed(fixed, real), real))
    return tuple(dict.fromkeys((written, *found)))


MOST_LINKS = 40
"""So many a system follows for a path."""


def _passed(path: str, real: str) -> tuple[str, ...]:
    """What an absolute path becomes, link by link, on the way to where it leads."""
    if os.path.normpath(path) == real:
        return ()
    found: list[str] = []
    at, rest = "/", path.split("/")[::-1]
    while rest and len(found) < MOST_LINKS:
        part = rest.pop()
        if part in ("", "."):
            continue
        here = os.path.dirname(at) if part == ".." else os.path.join(at, part)  # noqa: PTH118, PTH120  # texts
        try:
            target = os.readlink(here)  # noqa: PTH115
        except (OSError, ValueError):
            at = here
            continue
        at = "/" if target.startswith("/") else at
        rest += target.split("/")[::-1]
        found.append(os.path.normpath("/".join((at, *rest[::-1]))))
    return tuple(found)


_LONGEST = 4096
_ODD = re.compile(
    r"[\x00-\x1f\x7f\\`\"]|(?i:%2[ef])|\A[\s'@~-]|\A(?i:[a-z][a-z0-9+.-]*):|\$[A-Z_{(]|\{[^{}]*,|'.*'|[\s']\Z"
)


def places_of(argument: str, text: str, root: str) -> Iterator[Place]:
    """Where a path leads, in each way that a tool may read it."""
    return (_place(argument, each, root) for each in _readings(text))


def _place(argument: str, path: str, root: str) -> Place:
    """Where a path leads, with the links that are there now."""
    is_odd = bool(_ODD.search(path)) or unicodedata.normalize("NFKC", path) != unicodedata.normalize("NFC", path)
    clear = path.replace("\0", "")
    scheme, found, rest = clear.partition("://")
    if found and scheme.lower() == "file":
        clear = rest
    written = _absolute(clear, root)
    if max(len(clear), len(written)) > _LONGEST:  # no system opens it, but a tool may make it shorter
        cut = written[:_LONGEST]
        return Place(argument=argument, written=cut, real=os.path.realpath(cut), is_odd=True)
    joined = _joined(clear, root)
    real = os.path.realpath(joined)
    return Place(argument=argument, written=written, real=real, is_odd=is_odd, passed=_passed(joined, real))


MOST_PLACES = 500
"""Of one call: links are followed for each. Who names more isn't called at all."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W_A-Z]+")
_ELSEWHERE = re.compile(r"(?:[/~\\]|[a-z]:[/\\]|file:)[^\n\r]*\Z", re.IGNORECASE)
_LINES = re.compile(r"[\n\r]")
_FILE_URL = re.compile(r"\Afile:(?://[^/]*)?", re.IGNORECASE)
_QUOTES = re.compile(r"[\"'`]")
_BEFORE = re.compile(r"[\s@]*(?:(?:-[a-z]=?|--[^=/]*=)[\s@]*)?", re.IGNORECASE)


def places(found: Mapping[str, str], names: Sequence[str], root: str) -> tuple[Place, ...]:
    """The places that a call's arguments name, one more than there may be at the most.

    An argument is a path by its own name, by the last word of it, or by that of the array or table that it is in, whose
    names are paths then, too; and whatever it is called, where it is written like one that leads elsewhere.
    """
    return tuple(islice(_places(found, _wanted(tuple(names)), root), MOST_PLACES + 1))


@lru_cache(maxsize=16)
def _wanted(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(_bare, names))


def _places(found: Mapping[str, str], wanted: frozenset[str], root: str) -> Iterator[Place]:
    for name, text in found.items():
        parts = [re.sub(r"\\(.)", r"\1", each) for each in parts_of(name) if not each.isdigit()]
        at = next((at for at in reversed(range(len(parts))) if _is_path(parts[at], wanted)), None)
        if at is not None:
            yield from (each for part in (text, *parts[at + 1 :]) for each in places_of(name, part, root))
        elif _leads_elsewhere(text):
            yield from places_of(name, text, root)


def _leads_elsewhere(text: str) -> bool:
    """Whether it is written like a path out of the project, as a text of one line."""
    if len(text) > _LONGEST:
        return False
    bare = _peeled(text)
    upwards = ".." in bare and os.path.normpath(bare.replace("\\", "/")).startswith("..")
    return bool(_ELSEWHERE.match(bare)) or (upwards and not _LINES.search(bare))


def _readings(path: str) -> tuple[str, ...]:
    """As it is written, and as a tool may read it that peels it, knows URLs, variables, or another system's paths."""
    return tuple(dict.fromkeys(each for way in (path, _peeled(path)) for each in (way, _resolved(way))))


def _peeled(path: str) -> str:
    """Without blanks around it, quotes, what nobody sees, and the `@` or the option in front of a file's name."""
    bare = _QUOTES.sub("", visible(path)).strip()
    return bare[_BEFORE.match(bare).end() :]  # type: ignore[union-attr]  # it fits nothing, too


def _resolved(path: str) -> str:
    """With other slashes, what is encoded, and variables read as a tool might; again without what is around it."""
    other = path.replace("\\", "/")
    other = _peeled(unquote(other)) if "%" in other else other
    return os.path.expandvars(_FILE_URL.sub("", other))


def _is_path(name: str, wanted: frozenset[str]) -> bool:
    """Whether an argument of this name is a path: `file_path`, `outputFile`, `target-dir`."""
    words = _WORD.findall(unicodedata.normalize("NFKC", name))
    last = words[-1].casefold().rstrip("0123456789") if words else ""
    return any(each in wanted or each.removesuffix("s") in wanted for each in (_bare(name), last))


def _bare(name: str) -> str:
    """The same for `file_path`, `file-path` and `filePath`, which the tools of MCP servers have."""
    return unicodedata.normalize("NFKC", name).casefold().replace("_", "").replace("-", "")
