"""A ring of what was published last, with places that readers remember. Pure.

A place is the number of entries published before it, holes included; what a reader has seen last is at its place. A
hole is an entry that nobody can read: whoever stands before it has missed something, and so has whoever stands before
the oldest entry that is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

__all__ = ["Ring"]

T = TypeVar("T")


class Ring(Generic[T]):
    """The last `size` entries. `end` is the place behind all of them, `hole` the one behind the last hole."""

    __slots__ = ("_kept", "end", "hole", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.end = 0
        self.hole = 0
        self._kept: deque[T] = deque(maxlen=size)

    def publish(self, entries: Sequence[T]) -> None:
        """Add entries; the oldest make room for them."""
        self._kept.extend(entries)
        self.end += len(entries)

    def skip(self) -> None:
        """Make a hole: nobody gets past it by reading."""
        self._kept.clear()
        self.end += 1
        self.hole = self.end

    def holds(self, place: int) -> bool:
        """Whether everything after this place can still be read; then `after(place)` is next, unless it is the end."""
        return self.end - len(self._kept) <= place <= self.end

    def after(self, place: int) -> T:
        """The entry right after a place that it `holds`."""
        return self._kept[place - self.end]
