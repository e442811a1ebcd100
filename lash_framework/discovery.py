"""What is installed: the entry points of the group `lash`, read without importing any of them.

`importlib.metadata` knows every place where a distribution can be, and takes as long as importing all plugins. Nearly
all are folders next to the packages: those are read here, by its rules, and it is asked for the rest.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, Literal

from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from importlib.metadata import Distribution

__all__ = ["GROUP", "Candidate", "EntryPoint", "installed"]

GROUP = "lash"
"""The entry-point group; an entry point's name is the plugin's id."""

Unreadable = tuple[str, Exception]
_Read = Callable[[str], bytes]
_Found = tuple[str, _Read]  # a distribution's name, as far as it can be told without reading, and what reads its files


@frozen
class EntryPoint:
    """A name that a distribution gives to an object: `MODULE` or `MODULE:ATTRIBUTE`; `[EXTRAS]` are ignored."""

    name: str
    value: str

    def load(self) -> Any:
        """Import the object."""
        module, _, attribute = self.value.partition("[")[0].partition(":")
        found: Any = import_module(module.strip())
        for name in filter(None, attribute.strip().split(".")):
            found = getattr(found, name)
        return found


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
    found: list[Candidate] = []
    unreadable: list[Unreadable] = []
    seen: set[str] = set()
    for name, read in _distributions():
        normalised = re.sub(r"[-_.]+", "-", name).lower()
        if normalised in seen:
            continue  # further back on the path, and so shadowed
        seen.add(normalised)
        try:
            entry_points = _entry_points(read("entry_points.txt"))
        except ValueError as error:  # no text, or a line that is none
            unreadable.append((_name_or(name, read), error))
            continue
        for entry_point in entry_points:
            try:
                told, version = _name_and_version(read)
            except ValueError as error:
                unreadable.append((entry_point.name, error))
            else:
                found.append(Candidate(entry_point.name, told, version, entry_point))
    return sorted(found, key=lambda each: (each.plugin_id, each.distribution or "")), unreadable


# ---- what a distribution says ---------------------------------------------------------------------------------------

_SECTION = f"[{GROUP}]"
_VALUE = re.compile(r"[\w.]+\s*(:\s*[\w.]+\s*)?(\[.*\]\s*)?")


def _entry_points(data: bytes) -> list[EntryPoint]:
    if _SECTION.encode() not in data:
        return []  # as in most; then it doesn't matter what else is in it
    found, section = [], ""
    for line in map(str.strip, data.decode().splitlines()):
        if line.startswith("["):
            section = line
        elif section == _SECTION and line and not line.startswith("#"):
            name, _, value = map(str.strip, line.partition("="))
            if not (name and _VALUE.fullmatch(value)):
                raise ValueError(f"`{line}` is no entry point")
            found.append(EntryPoint(name, value))
    return found


def _name_and_version(read: _Read) -> tuple[str, str | None]:
    """As its metadata begins: parsing the whole takes longer than finding all plugins."""
    head = (read("METADATA") or read("PKG-INFO")).decode().partition("\n\n")[0]
    fields = dict(line.split(": ", 1) for line in head.splitlines() if line.startswith(("Name: ", "Version: ")))
    if not fields.get("Name"):
        raise ValueError("its distribution has no name")
    return fields["Name"], fields.get("Version")


def _name_or(name: str, read: _Read) -> str:
    try:
        return _name_and_version(read)[0]
    except ValueError:
        return name


# ---- where distributions are ----------------------------------------------------------------------------------------


def _distributions() -> Iterator[_Found]:
    """All of them, in the order in which the path is searched."""
    for place in sys.path:
        if place.endswith(".egg") or os.path.isfile(place):  # noqa: PTH113  # the same
            yield from _elsewhere([place])
        else:
            yield from _in_folder(place or ".")
    if any(hasattr(finder, "find_distributions") and finder is not PathFinder for finder in sys.meta_path):
        yield from _elsewhere(sys.path)


def _in_folder(folder: str) -> Iterator[_Found]:
    try:
        names = os.listdir(folder)  # noqa: PTH208  # the same
    except OSError:
        return  # it isn't there, or isn't ours to read: nothing can be imported from it either
    for name in sorted(names):
        stem, _, kind = name.rpartition(".")
        if kind in ("dist-info", "egg-info"):
            yield stem.partition("-")[0], partial(_from, os.path.join(folder, name))  # noqa: PTH118  # the same


def _from(folder: str, name: str) -> bytes:
    try:
        with open(os.path.join(folder, name), "rb", buffering=0) as file:  # noqa: PTH118, PTH123  # pathlib takes longer
            return file.read()
    except OSError:
        return b""


def _elsewhere(path: list[str]) -> Iterator[_Found]:
    from importlib import metadata  # not cheap, and seldom needed

    for distribution in metadata.distributions(path=path):
        read = partial(_of, distribution)
        if name := _name_or("", read):  # otherwise it is half removed; whose it was can't be told
            yield name, read


def _of(distribution: Distribution, name: str) -> bytes:
    return (distribution.read_text(name) or "").encode()
