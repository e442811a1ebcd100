"""What is installed: the entry points of the group `lash`, read without importing any of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from importlib_metadata import EntryPoint

__all__ = ["GROUP", "Candidate", "installed"]

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


def installed() -> tuple[list[Candidate], list[Unreadable]]:
    """The installed candidates by id and distribution, and distributions that can't be read, with the reason."""
    import importlib_metadata  # not cheap, and not needed to look up a type

    try:
        entry_points: Iterable[EntryPoint] = importlib_metadata.entry_points(group=GROUP)
        unreadable: list[Unreadable] = []
    except Exception:
        # One distribution with a broken file spoils the usual way for all of them, so look at each alone.
        entry_points, unreadable = _one_by_one(importlib_metadata.distributions())
    found = []
    for entry_point in entry_points:
        try:
            distribution = entry_point.dist
            name, version = _name_and_version(distribution) if distribution is not None else (None, None)
            if not name:
                raise ValueError("its distribution has no name")  # older importlib_metadata: None instead of an error
        except Exception as error:
            unreadable.append((entry_point.name, error))
        else:
            found.append(Candidate(entry_point.name, name, version, entry_point))
    return sorted(found, key=lambda each: (each.plugin_id, each.distribution or "")), unreadable


def _name_and_version(distribution: Any) -> tuple[str | None, str | None]:
    """As its metadata begins: parsing the whole, as `distribution.name` does, takes longer than finding all plugins."""
    head = (distribution.read_text("METADATA") or "").partition("\n\n")[0]
    fields = dict(line.split(": ", 1) for line in head.splitlines() if line.startswith(("Name: ", "Version: ")))
    return fields.get("Name") or distribution.name, fields.get("Version") or distribution.version


def _one_by_one(distributions: Iterable[Any]) -> tuple[list[EntryPoint], list[Unreadable]]:
    found: list[EntryPoint] = []
    unreadable: list[Unreadable] = []
    seen: set[str] = set()
    for distribution in distributions:
        try:
            name = str(distribution.name)
        except Exception:
            continue  # half removed; whose it was can't be told
        normalised = re.sub(r"[-_.]+", "-", name).lower()
        if normalised in seen:
            continue  # further back on the path, and so shadowed
        seen.add(normalised)
        try:
            found += distribution.entry_points.select(group=GROUP)
        except Exception as error:
            if _may_be_ours(distribution):
                unreadable.append((name, error))
    return found, unreadable


def _may_be_ours(distribution: Any) -> bool:
    try:
        return f"[{GROUP}]" in (distribution.read_text("entry_points.txt") or "")
    except Exception:
        return True
