"""Cutting a text to a size, at one end or between both. Pure; sizes are bytes of UTF-8, and no character is split."""

from __future__ import annotations

from lash_hookspecs.tool_declarations import OutputEnd
from lash_hookspecs.values import frozen

__all__ = ["Cut", "cut", "fitting_end", "fitting_start"]


@frozen(kw_only=True)
class Cut:
    """What is kept of a text: all before `start` and all from `end` on; between them it is cut out."""

    data: bytes
    start: int
    end: int

    @property
    def head(self) -> str:
        """What is kept of its beginning."""
        return self.data[: self.start].decode()

    @property
    def tail(self) -> str:
        """What is kept of its end."""
        return self.data[self.end :].decode()

    @property
    def lines(self) -> int:
        """How many lines are cut out, in whole or in part."""
        return len(self.data[self.start : self.end].splitlines())


def cut(text: str, keeps: OutputEnd, size: int, lines: int) -> Cut | None:
    """The text cut to so many bytes and lines; None if it is within both."""
    data = text.encode()
    if len(data) <= size and data.count(b"\n") + (data[-1:] not in (b"", b"\n")) <= lines:
        return None
    head = {OutputEnd.HEAD: (size, lines), OutputEnd.TAIL: (0, 0)}.get(keeps, (size // 2, lines // 2))
    start = _start(data, *head)
    end = _end(data, size - head[0], lines - head[1]) if keeps is not OutputEnd.HEAD else len(data)
    return Cut(data=data, start=start, end=max(start, end))


def _start(data: bytes, size: int, lines: int) -> int:
    """Where the beginning ends: after so many lines, or bytes; after a whole line, unless that gives up half of it."""
    limit, at = min(size, len(data)), 0
    for _ in range(lines):
        found = data.find(b"\n", at, limit)
        if found < 0:
            return at if at > limit // 2 else fitting_end(data, limit)
        at = found + 1
    return at


def _end(data: bytes, size: int, lines: int) -> int:
    """The same for where the end begins."""
    least, at = max(0, len(data) - size), len(data)
    before = at - data.endswith(b"\n")
    for _ in range(lines):
        found = data.rfind(b"\n", least, before)
        if found < 0:
            return at if len(data) - at > size // 2 else fitting_start(data, least)
        at, before = found + 1, found
    return at


def fitting_end(data: bytes, at: int) -> int:
    """The last place up to `at` where no character is split."""
    at = max(0, min(at, len(data)))
    while 0 < at < len(data) and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


def fitting_start(data: bytes, at: int) -> int:
    """The first place from `at` on where no character is split."""
    at = max(0, min(at, len(data)))
    while at < len(data) and data[at] & 0xC0 == 0x80:
        at += 1
    return at
