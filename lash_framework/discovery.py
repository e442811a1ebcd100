"""What is installed: the entry points of the group `lash`, read without importing any of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from importlib_metadata import EntryPoint

__all__ = ["GROUP", "Candidate", "installed", "none_offered"]

GROUP = "lash"
"""The entry-point group; an entry point's name is the plugin's id."""

Unreadable = tuple[str, Exception]


@frozen
class Candidate:
    """Something that may be a plugin: an object that is there, or an entry point not yet imported."""

    plugin_id: str
    distribution: str | None = None
    version: str | None = None
    entry_point: EntryPoint | None = None
    plugin: object = None
    source: Literal["entry point", "code"] = "entry point"


def installed() -> tuple[Sequence[Candidate], Sequence[Unreadable]]:
    """The installed candidates by id and distribution, and distributions that can't be read, with the reason.

    Who asks again gets the same answer until a folder of `sys.path` changes, which installing does.
    """
    return _installed(tuple(found for each in sys.path if (found := _place(each)) is not None))


def _place(path: str) -> tuple[str, int, int] | None:
    """A folder or a zip file as it is now; None if it isn't there.

    To look into a zip file that isn't there, as the standard library's seldom is, would import `zipfile`.
    """
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return str(Path(path).absolute()), status.st_ino, status.st_mtime_ns


@lru_cache(maxsize=1)
def _installed(at: Sequence[tuple[str, int, int]]) -> tuple[Sequence[Candidate], Sequence[Unreadable]]:
    """Each distribution is looked at alone: one with a broken file spoils `importlib_metadata.entry_points` for all of
    them, which also takes twice as long.
    """
    import importlib_metadata  # not cheap, and not needed to look up a type

    places = [path for path, _, _ in at]
    found: list[Candidate] = []
    unreadable: list[Unreadable] = []
    seen: set[str] = set()
    for distribution in importlib_metadata.distributions(path=places):
        entry_points: Sequence[EntryPoint] = ()
        name = version = fault = None
        try:
            if f"[{GROUP}]" not in (distribution.read_text("entry_points.txt") or ""):
                continue
            entry_points = tuple(distribution.entry_points.select(group=GROUP))
        except Exception as error:
            fault = error
        try:
            name, version = _name_and_version(distribution)
        except Exception as error:
            unreadable += [(each.name, error) for each in entry_points]
            continue
        if not name:  # older importlib_metadata: None instead of an error
            unreadable += [(each.name, ValueError("its distribution has no name")) for each in entry_points]
            continue
        normalised = re.sub(r"[-_.]+", "-", name).lower()
        if normalised in seen or _is_shadowed(distribution, importlib_metadata.distributions(name=name, path=places)):
            continue
        seen.add(normalised)
        if fault is not None:
            unreadable.append((name, fault))
        found += [Candidate(each.name, name, version, each) for each in entry_points]
    return tuple(sorted(found, key=lambda each: (each.plugin_id, each.distribution or ""))), tuple(unreadable)


def _is_shadowed(distribution: Any, namesakes: Iterable[Any]) -> bool:
    """Whether another one of this name comes before it on the path."""
    first = next(iter(namesakes), None)
    return first is not None and str(first.locate_file("")) != str(distribution.locate_file(""))


def _name_and_version(distribution: Any) -> tuple[str | None, str | None]:
    """As its metadata begins: parsing the whole, as `distribution.name` does, takes longer than finding all plugins."""
    head = (distribution.read_text("METADATA") or "").partition("\n\n")[0]
    fields = dict(line.split(": ", 1) for line in head.splitlines() if line.startswith(("Name: ", "Version: ")))
    return fields.get("Name") or distribution.name, fields.get("Version") or distribution.version


def none_offered(known: Collection[str]) -> str | None:
    """What to do where no plugin offers anything of a kind; None where one does."""
    return (
        None if known else 'no plugin here offers one; `pip install "lash-framework[standard]"` brings the usual ones'
    )
