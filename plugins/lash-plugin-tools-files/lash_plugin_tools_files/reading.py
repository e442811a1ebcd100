"""What is in an open file, which may grow or shrink meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = ["blocks", "read_all"]

_AT_ONCE = 32 * 1024


def blocks(fd: int, size: int, most: int) -> Iterator[bytes]:
    """Piece by piece, up to `most` bytes. A file of so many bytes as it was said to have takes no further look."""
    taken = 0
    while taken < most and (block := os.read(fd, min(_AT_ONCE, most - taken))):
        taken += len(block)
        yield block
        if taken == size:
            return


def read_all(fd: int, size: int, most: int) -> bytes:
    """All at once, up to `most` bytes."""
    data = os.read(fd, size + 1)
    if len(data) <= size and (not data or len(data) == size):
        return data
    pieces = [data]
    taken = len(data)
    while taken <= most and (piece := os.read(fd, 1 << 20)):
        pieces.append(piece)
        taken += len(piece)
    return b"".join(pieces)[:most]
