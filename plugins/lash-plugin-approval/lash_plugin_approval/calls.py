"""A call as rules look at it: its arguments one by one, and where the paths among them lead."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.values import frozen
from lash_plugin_approval.patterns import path_fits

__all__ = ["Facts", "Place", "absolute", "leaves", "place_of", "places"]


@frozen(kw_only=True)
class Place:
    """Where a path argument leads: as it is written, and behind all links. `is_odd`: not every tool reads it alike."""

    argument: str
    written: str
    real: str
    is_odd: bool

    def within(self, pattern: str, *, narrow: bool) -> bool:
        """Whether it fits: narrowly in every reading, widely in any."""
        found = [path_fits(pattern, each, narrow=narrow) for each in (self.written, self.real)]
        return (all(found) and not self.is_odd) if narrow else any(found)


@frozen(kw_only=True)
class Facts:
    """What rules are held against. `spent` is what the session has cost before this turn, in dollars."""

    tool: str
    owner: str
    effect: str
    args: Mapping[str, Any]
    leaves: Mapping[str, Any]
    places: tuple[Place, ...]
    spent: float = 0.0

    @property
    def digest(self) -> str:
        """The same for the same call of the same plugin's tool, and for no other one."""
        return stable_hash("lash-plugin-approval", [self.owner, self.tool, dict(self.args)])


def leaves(value: Any, name: str | None = None) -> Iterator[tuple[str, str]]:
    """Arguments by name, those in tables and arrays by their path (`edits.0.path`); all as text, each by its own name.

    None is the name of all arguments together, and "" that of an argument without one.
    """
    if isinstance(value, Mapping) and (value or name is None):
        for key, each in value.items():
            part = str(key).replace("\\", "\\\\").replace(".", "\\.")
            yield from leaves(each, part if name is None else f"{name}.{part}")
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and value:
        for at, each in enumerate(value):
            yield from leaves(each, f"{name}.{at}")
    else:
        yield name or "", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def absolute(path: str, root: str) -> str:
    """A path as it is written, made absolute; no link is followed."""
    return os.path.normpath(os.path.join(root, os.path.expanduser(path)))  # noqa: PTH111, PTH118  # texts, not files


_LONGEST = 4096
_ODD = re.compile(r"[\x00-\x1f\x7f\\]|%2[ef]|^~|^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def place_of(argument: str, path: str, root: str) -> Place:
    """Where a path leads, with the links that are there now."""
    is_odd = bool(_ODD.search(path)) or unicodedata.normalize("NFKC", path) != unicodedata.normalize("NFC", path)
    clear = path.replace("\0", "")
    scheme, found, rest = clear.partition("://")
    if found and scheme.lower() == "file":
        clear = rest
    written = absolute(clear, root)
    if max(len(clear), len(written)) > _LONGEST:  # no system opens it, but a tool may make it shorter
        cut = written[:_LONGEST]
        return Place(argument=argument, written=cut, real=os.path.realpath(cut), is_odd=True)
    real = os.path.realpath(os.path.join(root, os.path.expanduser(clear)))  # noqa: PTH111, PTH118  # as above
    return Place(argument=argument, written=written, real=real, is_odd=is_odd)


def places(found: Mapping[str, str], names: Sequence[str], root: str) -> tuple[Place, ...]:
    """The places that a call's arguments name; an argument is a path by its own name, or that of the array it is in."""
    wanted = {_bare(each) for each in names}
    return tuple(
        place_of(name, text, root)
        for name, text in found.items()
        if wanted & {_bare(part) for part in [each for each in name.split(".") if not each.isdigit()][-1:]}
    )


def _bare(name: str) -> str:
    """The same for `file_path`, `file-path` and `filePath`, which the tools of MCP servers have."""
    return name.casefold().replace("_", "").replace("-", "")
