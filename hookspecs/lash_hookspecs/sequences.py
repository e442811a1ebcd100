"""Immutable sequences that make or find their entries when they are read, and compare like tuples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from operator import eq
from typing import TypeVar, overload

__all__ = ["Deferred", "LazySequence"]

T = TypeVar("T", covariant=True)


class LazySequence(Sequence[T]):
    """A base for such sequences: equal to every sequence of this kind, tuple or list of equal entries.

    A subclass has `__len__` and `entry`; slices are tuples.
    """

    __slots__ = ()

    @abstractmethod
    def entry(self, at: int) -> T:
        """The entry at a place that there is."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return tuple(map(self.entry, range(*index.indices(len(self)))))
        length = len(self)
        at = index + length if index < 0 else index
        if not 0 <= at < length:
            raise IndexError(f"entry {index} of {length}")
        return self.entry(at)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, LazySequence | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)}>"


class Deferred(LazySequence[T]):
    """A sequence that is found when somebody looks at it."""

    __slots__ = ("_find", "_found")

    def __init__(self, find: Callable[[], Sequence[T]]) -> None:
        self._find = find
        self._found: Sequence[T] | None = None

    @property
    def found(self) -> Sequence[T]:
        """What was found."""
        if self._found is None:
            self._found = self._find()
        return self._found

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[T]:
        return iter(self.found)

    def entry(self, at: int) -> T:
        """The entry at a place."""
        return self.found[at]
