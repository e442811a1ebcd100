"""A file as a model reads it: each line behind its number. Pure.

It takes a file in blocks, and has one of them as lines at a time. All lines of a long file at once are more memory than
the process has at hand, and getting it from the system takes longer than all the rest of a read.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from functools import lru_cache
from io import BytesIO

from lash_plugin_tools_files.refusals import invalid
from lash_plugin_tools_files.texts import shortened, within

__all__ = ["numbered"]

_BLOCK = 2048


def numbered(shown: str, blocks: Iterable[bytes], offset: int, limit: int, max_bytes: int, max_line: int) -> str:
    """Lines from `offset` on, each behind its number and a tab, and what is left out."""
    batches = _batches(blocks)
    said = ""  # it grows in place: pieces in a list would be all of it once more in the end
    total, end, last = 0, offset - 1, offset - 1 + limit
    left = max_bytes + 1  # each line takes a line feed, but for the last one
    for lines in batches:
        first, total = total + 1, total + len(lines)
        if total < offset:
            continue
        lines = lines[end + 1 - first : last + 1 - first]
        piece, count = _piece(end + 1, lines, max_line), len(lines)
        size = (len(piece) if piece.isascii() else len(piece.encode())) + 1
        if size > left:
            rows = piece.split("\n")
            rows = within(rows, left) or rows[: not said]  # one at least, whatever it has
            piece, count = "\n".join(rows), len(rows)
        if said and count:
            said += "\n"
        said += piece
        end += count
        left -= size
        if left <= 0 or end == last:
            break
    total += sum(map(len, batches))
    if not total:
        return "(the file is empty)"
    if not said:
        raise invalid("no_such_line", f"`{shown}` has {total:,} lines, so that there is no line {offset:,}")
    if offset > 1 or end < total:
        more = f"; go on with offset={end + 1}" if end < total else ""
        said += f"\n(lines {offset}–{end} of {total:,}{more})"
    return said


def _batches(blocks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The lines that end in each block, with their ends, and without a mark of byte order."""
    rest: list[bytes] = []  # of a line that goes on in the next block
    mark = BOM_UTF8
    for block in blocks:
        given, mark = block.removeprefix(mark), b""
        lines = BytesIO(given).readlines()
        if given and not given.endswith(b"\n"):
            after = [lines.pop()]
            if not lines:
                rest += after
                continue
        else:
            after = []
        if lines:
            lines[0] = b"".join([*rest, lines[0]])
            rest = after
            yield lines
    if rest:
        yield [b"".join(rest)]


def _piece(first: int, lines: list[bytes], max_line: int) -> str:
    """These lines behind their numbers, with line feeds and nothing else between them."""
    lines[-1] = lines[-1].removesuffix(b"\n")
    data = _joined(first, lines)
    if _may_have_longer(data, max_line):
        data = _joined(first, [_shortened(each, max_line) for each in lines])
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").removesuffix(b"\r")
    return data.decode(errors="replace")


def _joined(first: int, lines: list[bytes]) -> bytes:
    both = _rows(first, len(lines))
    both[1::2] = lines
    return b"".join(both)


def _may_have_longer(data: bytes, most: int) -> bool:
    """False if no line has more than so many bytes. It looks once for all lines that so many bytes have."""
    start, last, find = 0, len(data) - most, data.rfind
    while start < last:
        start = find(b"\n", start, start + most + 1) + 1
        if not start:
            return True
    return False


def _shortened(line: bytes, most: int) -> bytes:
    text = line.removesuffix(b"\n").removesuffix(b"\r")
    return shortened(text.decode(errors="replace"), most).encode() + line[len(text) :]


def _rows(first: int, count: int) -> list[bytes]:
    """What stands before so many lines, with room for a line behind each."""
    start, last = (first - 1) // _BLOCK, (first + count - 2) // _BLOCK
    found = _block(start)
    if last > start:
        found = [each for number in range(start, last + 1) for each in _block(number)]
    at = first - 1 - start * _BLOCK
    return found[2 * at : 2 * (at + count)]


@lru_cache(maxsize=8)
def _block(number: int) -> list[bytes]:
    return [each for line in range(number * _BLOCK, (number + 1) * _BLOCK) for each in (b"%d\t" % (line + 1), b"")]
