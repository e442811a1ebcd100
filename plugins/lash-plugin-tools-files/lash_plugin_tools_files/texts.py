"""Bytes of a file as text. Pure.

A line ends with a line feed, and with nothing else: `read_file`, `edit_file` and `grep` count the same lines.
"""

from __future__ import annotations

from collections.abc import Sequence

from lash_hookspecs.tools import ToolError
from lash_plugin_tools_files.refusals import invalid

__all__ = ["BOM", "binary", "decoded", "is_binary", "shortened", "within"]

BOM = "\ufeff"
_LOOKED_AT = 8192
_KINDS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive",
    b"\x7fELF": "a program",
    b"\x1f\x8b": "gzip data",
    b"SQLite format 3": "a SQLite database",
}


def is_binary(data: bytes) -> bool:
    """Whether these are no text: there is a NUL among the first bytes."""
    return b"\0" in data[:_LOOKED_AT]


def decoded(shown: str, data: bytes) -> str:
    """The text of a file that is to be changed. Raises `ToolError` if it isn't UTF-8, since it would be spoilt."""
    if is_binary(data):
        raise binary(shown, data, len(data))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise invalid(
            "not_utf8", f"`{shown}` is not UTF-8 (byte {error.start}), so that it can't be edited as text"
        ) from None


def binary(shown: str, data: bytes, size: int) -> ToolError:
    """What is said of a file that begins with these bytes, and holds no text."""
    kind = next((text for start, text in _KINDS.items() if data.startswith(start)), "binary data")
    return invalid("binary_file", f"`{shown}` is {kind} ({size:,} bytes), not text")


def shortened(line: str, most: int) -> str:
    """A line of at most so many characters, and how many are left out."""
    return line if len(line) <= most else f"{line[:most]} … ({len(line) - most:,} more characters)"


def within(rows: Sequence[str], most: int) -> list[str]:
    """The first rows, of at most so many bytes together, each with a line feed."""
    taken: list[str] = []
    for row in rows:
        most -= len(row.encode()) + 1
        if most < 0:
            break
        taken.append(row)
    return taken
