"""Where settings are written down: `lash.toml` with its line numbers, texts from the environment and from `--set`.

It knows nothing of which settings there are; `keys.py` holds those tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lash_hookspecs.errors import ConfigurationError

__all__ = [
    "FILE_NAME",
    "LARGEST",
    "TRUSTED",
    "display_path",
    "find_file",
    "key_lines",
    "key_path",
    "lookup_line",
    "read_file",
    "split_setting",
    "toml_value",
]

FILE_NAME = "lash.toml"

LARGEST = 4 * 1024 * 1024
"""In bytes. Whoever enters a folder has not chosen what is in it."""

TRUSTED = "LASH_TRUSTED"
"""Folders, by absolute paths, whose files are trusted, separated as in `PATH`. Where it is set, no others are."""


def find_file(start: Path) -> Path | None:
    """The nearest `lash.toml`, in `start` or above it."""
    for folder in (start, *start.parents):
        candidate = folder / FILE_NAME
        if candidate.is_file():
            return candidate
    return None


def display_path(path: Path, cwd: Path) -> str:
    """The path as people want to read it: relative if it is below `cwd`."""
    try:
        return str(path.resolve().relative_to(cwd.resolve()))
    except ValueError:
        return str(path)


def read_file(path: Path, shown: str) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """A TOML file's contents, and the line of each key. Raises `ConfigurationError` that names file and line."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        text = data.decode("utf-8") if len(data) <= LARGEST else ""
        text = text.removeprefix("\ufeff")  # some editors on Windows put it there
    except OSError as error:
        raise ConfigurationError(f"{shown}: can't be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{shown}: not UTF-8 text (byte {error.start})") from error
    if len(data) > LARGEST:
        raise ConfigurationError(f"{shown}: it has more than {LARGEST:,} bytes")
    import tomllib  # who has no file, and sets nothing, needs none

    try:
        return tomllib.loads(text), key_lines(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{shown}: {error}") from error
    except RecursionError:
        raise ConfigurationError(f"{shown}: its tables and arrays are nested too deep") from None


# ---- lines of keys --------------------------------------------------------------------------------------------------

# As texts: without a file there is nothing to look for, and compiling these takes longer than reading one. None goes
# back over what it has passed: a file may be made to have that take for ever.
_HEADER = r"""\s*\[\[?((?:[^\[\]"'=]|"[^"]*"|'[^']*')+)\]\]?\s*(?:#.*)?$"""
_KEY = r"""\s*+((?:[A-Za-z0-9_.\- \t]|"[^"]*"|'[^']*')++)="""
_TOKEN = (
    r"(?s)'''(?:.|\n)*?'''"
    + r'|"""(?:\\.|[^\\])*?"""'
    + r"|'[^'\n]*'"
    + r'|"(?:\\.|[^"\\\n])*"'
    + r"|\#[^\n]*|[\[\]{}\n]|."
)


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line (from 1) on which each key of a valid TOML text first stands.

    A table of an array of tables stands below its number, from 0. Keys of inline tables are not listed: whoever looks
    one up falls back on the nearest key above it. tomllib tells no positions, and a parser that does takes longer to
    import than all else that a start needs.
    """
    lines: dict[tuple[str, ...], int] = {}
    prefix: tuple[str, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    for number, statement in _statements(text):
        if header := re.match(_HEADER, statement):
            prefix = key_path(header[1])
            lines.setdefault(prefix, number)
            if statement.lstrip().startswith("[["):
                counts[prefix] = counts.get(prefix, -1) + 1
                prefix = (*prefix, str(counts[prefix]))
                lines[prefix] = number
        elif key := re.match(_KEY, statement):
            lines.setdefault(prefix + key_path(key[1].strip()), number)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Headers and `key = value` pairs, each with the number of its first line; a value may span several lines."""
    start, number, depth, begin = 1, 1, 0, 0
    for token in re.finditer(_TOKEN, text):
        piece = token[0]
        if piece == "\n" and depth == 0:
            yield start, text[begin : token.start()]
            start, begin = number + 1, token.end()
        elif piece in "[{":
            depth += 1
        elif piece in "]}":
            depth -= 1
        number += piece.count("\n")
    yield start, text[begin:]


# ---- texts ----------------------------------------------------------------------------------------------------------

_BARE = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"
_NO_VALUE = r"(?!true|false|inf|nan)[A-Za-z]"
"""How a text begins that is no TOML value: these are the only ones that begin with a letter."""


def key_path(text: str) -> tuple[str, ...]:
    """`a."b c".d` as its parts. Raises ValueError if it is no dotted TOML key."""
    if re.fullmatch(_BARE, text):
        return tuple(text.split("."))
    import tomllib

    node: Any = tomllib.loads(f"{text} = 0") if "\n" not in text else None
    parts = []
    while isinstance(node, dict):
        if len(node) != 1:
            raise ValueError(f"`{text}` is no dotted key")
        [(part, node)] = node.items()
        parts.append(part)
    if not parts:
        raise ValueError(f"`{text}` is no dotted key")
    return tuple(parts)


def toml_value(text: str) -> Any:
    """The text as a TOML value, or as it stands if it is none."""
    if text.strip() and not re.match(_NO_VALUE, text):
        import tomllib

        try:
            parsed = tomllib.loads(f"value = {text.strip()}")
        except tomllib.TOMLDecodeError:
            return text
        if parsed.keys() == {"value"}:
            return parsed["value"]
    return text


def split_setting(text: str) -> tuple[tuple[str, ...], str]:
    """`a.b.c=value` as path and value. Raises `ConfigurationError` if it isn't of that form."""
    name, equals, value = text.partition("=")
    try:
        path = key_path(name.strip()) if equals else ()
    except ValueError:
        path = ()
    if not path:
        # The text may hold a key, so only its first part is repeated.
        raise ConfigurationError(f"--set `{name.strip()}`: expected `--set key.of.setting=value`")
    return path, value


def lookup_line(lines: Mapping[tuple[str, ...], int], path: Sequence[str]) -> int | None:
    """The line of a key, or of the nearest key above it."""
    for length in range(len(path), 0, -1):
        if (number := lines.get(tuple(path[:length]))) is not None:
            return number
    return None
