"""Docstrings: what one says of the parameters, in Google's, NumPy's or Sphinx's style, and what is left without it.

Only a section that names a parameter is taken; whatever else a docstring says, in whatever form, stays as it is.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Documented", "documented"]


class Documented(NamedTuple):
    """The text without the sections about parameters, and what these say, by parameter."""

    text: str
    parameters: Mapping[str, str]


class _Section(NamedTuple):
    end: int
    entries: Mapping[str, str]


_HEADINGS = frozenset({"args", "arguments", "parameters", "params", "other parameters", "keyword args", "attributes"})
_GOOGLE_ENTRY = re.compile(r"(\w+)\s*(?:\(.*?\))?\s*:\s*(.*)")
_NUMPY_ENTRY = re.compile(r"(\w+(?:\s*,\s*\w+)*)\s*(?::.*)?")
_SPHINX_ENTRY = re.compile(r":(?:param|parameter|arg|argument|ivar|var|type|vartype)\s+(?:[^:]*?\s)?(\w+)\s*:\s*(.*)")


def documented(doc: str | None, names: Collection[str]) -> Documented:
    """Take a docstring apart. `names` are the parameters."""
    lines = inspect.cleandoc(doc or "").splitlines()
    rest: list[str] = []
    found: dict[str, str] = {}
    at = 0
    while at < len(lines):
        section = _google(lines, at) or _numpy(lines, at) or _sphinx(lines, at)
        if section is None or not section.entries.keys() & set(names):
            rest.append(lines[at])
            at += 1
            continue
        found |= {name: text for name, text in section.entries.items() if text and name in names}
        at = section.end
    text = re.sub(r"\n\s*\n(\s*\n)+", "\n\n", "\n".join(rest)).strip()
    return Documented(text, found)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _google(lines: Sequence[str], at: int) -> _Section | None:
    """`Args:`, and below it, indented, `name (type): text`."""
    head = lines[at].rstrip()
    if not head.endswith(":") or head[:-1].strip().lower() not in _HEADINGS:
        return None
    end = at + 1
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > _indent(head)):
        end += 1
    return _Section(end, _entries(lines[at + 1 : end], _GOOGLE_ENTRY))


def _numpy(lines: Sequence[str], at: int) -> _Section | None:
    """`Parameters` over a line of dashes, then `name : type` with an indented text."""

    def is_heading(place: int) -> bool:
        return place + 1 < len(lines) and re.fullmatch(r"\s*-{3,}\s*", lines[place + 1]) is not None

    if not is_heading(at) or lines[at].strip().lower() not in _HEADINGS:
        return None
    end = at + 2
    while end < len(lines) and not is_heading(end):
        end += 1
    return _Section(end, _entries(lines[at + 2 : end], _NUMPY_ENTRY))


def _sphinx(lines: Sequence[str], at: int) -> _Section | None:
    """One `:param type name: text`, which goes on in indented lines. `:type name:` says what the hint says."""
    match = _SPHINX_ENTRY.fullmatch(lines[at].strip())
    if match is None:
        return None
    end = at + 1
    while end < len(lines) and lines[end].strip() and _indent(lines[end]) > _indent(lines[at]):
        end += 1
    about_type = lines[at].lstrip().startswith((":type", ":vartype"))
    said = [] if about_type else [match[2], *lines[at + 1 : end]]
    return _Section(end, {match[1]: _joined(said)})


def _entries(lines: Sequence[str], entry: re.Pattern[str]) -> dict[str, str]:
    """Names at the first line's depth, with what follows them deeper down."""
    depth = next((_indent(line) for line in lines if line.strip()), 0)
    said: dict[str, list[str]] = {}
    names: list[str] = []
    for line in lines:
        match = entry.fullmatch(line.strip()) if _indent(line) == depth else None
        if match is not None:
            names = re.split(r"\s*,\s*", match[1])
            said |= {name: list(match.groups()[1:]) for name in names}
        else:
            for name in names:
                said[name].append(line)
    return {name: _joined(texts) for name, texts in said.items()}


def _joined(lines: Sequence[str | None]) -> str:
    return " ".join(stripped for line in lines if line and (stripped := line.strip()))
