"""Bytes of a file as text, and text as a model reads it. Pure.

A line ends with a line feed, and with nothing else: `read_file`, `edit_file` and `grep` count the same lines.
"""

from __future__ import annotations

from functools import lru_cache

from lash_hookspecs.tools import ToolError
from lash_plugin_tools_files.refusals import invalid

__all__ = ["BOM", "binary", "decoded", "is_binary", "numbered", "shortened"]

BOM = "\ufeff"
_LOOKED_AT = 8192
_BLOCK = 2048
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
        raise binary(shown, data)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise invalid(
            "not_utf8", f"`{shown}` is not UTF-8 (byte {error.start}), so that it can't be edited as text"
        ) from None


def binary(shown: str, data: bytes) -> ToolError:
    """What is said of a file that holds no text."""
    kind = next((text for start, text in _KINDS.items() if data.startswith(start)), "binary data")
    return invalid("binary_file", f"`{shown}` is {kind} ({len(data):,} bytes), not text")


def shortened(line: str, most: int) -> str:
    """A line of at most so many characters, and how many are left out."""
    return line if len(line) <= most else f"{line[:most]} … ({len(line) - most:,} more characters)"


def numbered(shown: str, data: bytes, offset: int, limit: int, max_bytes: int, max_line: int) -> str:
    """Lines from `offset` on, each behind its number and a tab, and what is left out."""
    text = data.decode(errors="replace")
    if text.startswith(BOM):
        text = text[1:]
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    total = len(lines)
    if not total:
        return "(the file is empty)"
    if offset > total:
        raise invalid("no_such_line", f"`{shown}` has {total:,} lines, so that there is no line {offset:,}")
    wanted = lines if offset == 1 and limit >= total else lines[offset - 1 : offset - 1 + limit]
    if "\r" in text:
        wanted = [line.removesuffix("\r") for line in wanted]
    if _may_have_longer(text, max_line) and max(map(len, wanted)) > max_line:
        wanted = [shortened(line, max_line) for line in wanted]
    # Both at once, since line by line it would take most of a read's time.
    pieces = [""] * (2 * len(wanted))
    pieces[::2] = _prefixes(offset, len(wanted))
    pieces[1::2] = wanted
    said = "".join(pieces)[1:]
    end = offset + len(wanted) - 1
    if len(said) > max_bytes or (len(data) > max_bytes and len(said.encode()) > max_bytes):
        rows: list[str] = []
        size = 0
        for row in said.split("\n"):
            size += len(row.encode()) + 1
            if size > max_bytes and rows:
                break
            rows.append(row)
        end = offset + len(rows) - 1
        said = "\n".join(rows)
    if offset > 1 or end < total:
        more = f"; go on with offset={end + 1}" if end < total else ""
        said += f"\n(lines {offset}–{end} of {total:,}{more})"
    return said


def _may_have_longer(text: str, most: int) -> bool:
    """Whether there may be longer lines: none if each half of such a length has an end of line."""
    half = most // 2 + 1
    return any(text.find("\n", at, at + half) < 0 for at in range(0, len(text) - half, half))


def _prefixes(offset: int, count: int) -> list[str]:
    """What stands before so many lines, with the end of the line before."""
    first, last = (offset - 1) // _BLOCK, (offset + count - 2) // _BLOCK
    found = _block(first)
    if last > first:
        found = [each for number in range(first, last + 1) for each in _block(number)]
    start = offset - 1 - first * _BLOCK
    return found[start : start + count]


@lru_cache(maxsize=8)
def _block(number: int) -> list[str]:
    return [f"\n{line}\t" for line in range(number * _BLOCK + 1, (number + 1) * _BLOCK + 1)]
