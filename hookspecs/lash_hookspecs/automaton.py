"""Patterns, held against a row of symbols: each symbol is looked at once, for all patterns together. Pure.

For texts that a model writes, and for patterns that it writes, too: the characters of a text, or the names of a path.
A regular expression of Python's tries some of these for years, and holds every other thread meanwhile; here a row
that is twice as long takes twice the steps, whatever the pattern.

A pattern is a row of places. A symbol moves it from a place to the next, or leaves it there; where it may be after
each symbol is a set of places, which is a number with a bit for each. What a set becomes by a symbol is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

__all__ = ["Automaton", "Exactly", "Many", "Maybe", "One", "Piece"]

S = TypeVar("S", bound=Hashable)

_REMEMBERED = 4096
"""How many steps, and how many symbols, are remembered; then it begins anew."""


class Piece(Generic[S]):
    """What stands at a place of a pattern: one of the four below."""

    __slots__ = ()


class Exactly(Piece[S]):
    """This symbol, once."""

    __slots__ = ("symbol",)

    def __init__(self, symbol: S) -> None:
        self.symbol = symbol


class One(Piece[S]):
    """One symbol, for which `takes` is true; any, without it."""

    __slots__ = ("takes",)

    def __init__(self, takes: Callable[[S], object] | None = None) -> None:
        self.takes = takes


class Many(Piece[S]):
    """Any number of symbols, or none, for each of which `takes` is true."""

    __slots__ = ("takes",)

    def __init__(self, takes: Callable[[S], object] | None = None) -> None:
        self.takes = takes


class Maybe(Piece[S]):
    """All of these pieces, or nothing."""

    __slots__ = ("pieces",)

    def __init__(self, pieces: Iterable[Piece[S]]) -> None:
        self.pieces = tuple(pieces)


class Automaton(Generic[S]):
    """Patterns, to be held against rows of symbols.

    `ends` has a bit for each pattern, in their order. `steps` counts what had to be worked out, and wasn't remembered.
    """

    def __init__(self, patterns: Iterable[Iterable[Piece[S]]]) -> None:
        self._exact: dict[S, int] = {}
        self._goes: dict[Callable[[S], object] | None, int] = {}
        self._stays: dict[Callable[[S], object] | None, int] = {}
        self._skips: dict[int, int] = {}
        starts, ends, at = 0, list[int](), 0
        for pattern in patterns:
            starts |= 1 << at
            at = self._after(at, pattern)
            ends.append(1 << at)
            at += 1
        self.ends = tuple(ends)
        self._ends = sum(ends)
        self._first = self._closed(starts)
        self._rows: dict[int, dict[S, int]] = {}
        self._known: dict[S, tuple[int, int]] = {}
        self._remembered = 0
        self.steps = 0

    def fits(self, symbols: Iterable[S]) -> int:
        """The `ends` of the patterns that the whole row fits; 0 if there is none."""
        rows, at = self._rows, self._first
        for symbol in symbols:
            row = rows.get(at)
            new = None if row is None else row.get(symbol)
            if new is None:
                new = self._step(at, symbol)
            if not new:
                return 0
            at = new
        return at & self._ends

    def _after(self, at: int, pieces: Iterable[Piece[S]]) -> int:
        """The place behind these pieces, which begin at a place."""
        stays = False
        for piece in pieces:
            if isinstance(piece, Many):
                if stays and not self._stays.get(piece.takes, 0) >> at & 1:  # those before it are over, once it began
                    at = self._skipped(at, at + 1)
                self._stays[piece.takes] = self._stays.get(piece.takes, 0) | 1 << at
                stays = True
                continue
            if isinstance(piece, Maybe):
                end = self._after(self._skipped(at, at + 1), piece.pieces)
                self._skipped(at, end + 1)
                at = self._skipped(end, end + 1)
            else:
                if isinstance(piece, Exactly):
                    self._exact[piece.symbol] = self._exact.get(piece.symbol, 0) | 1 << at
                elif isinstance(piece, One):
                    self._goes[piece.takes] = self._goes.get(piece.takes, 0) | 1 << at
                at += 1
            stays = False
        return at

    def _skipped(self, start: int, end: int) -> int:
        """Whoever is at the first place is at the second, too."""
        self._skips[end - start] = self._skips.get(end - start, 0) | 1 << start
        return end

    def _step(self, at: int, symbol: S) -> int:
        """Where a row may be after this symbol."""
        self.steps += 1
        known = self._known.get(symbol)
        if known is None:
            known = self._taken(symbol)
        goes, stays = known
        new = self._closed((at & goes) << 1 | at & stays)
        if self._remembered >= _REMEMBERED:
            self._rows.clear()
            self._remembered = 0
        self._rows.setdefault(at, {})[symbol] = new
        self._remembered += 1
        return new

    def _taken(self, symbol: S) -> tuple[int, int]:
        """The places that go on by this symbol, and those that stay."""
        goes = self._exact.get(symbol, 0) | _sum(self._goes, symbol)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[symbol] = known = (goes, _sum(self._stays, symbol))
        return known

    def _closed(self, places: int) -> int:
        """These, and all that are reached from them without a symbol."""
        while self._skips:
            more = places
            for distance, starts in self._skips.items():
                more |= (more & starts) << distance
            if more == places:
                break
            places = more
        return places


def _sum(table: dict[Callable[[S], object] | None, int], symbol: S) -> int:
    found = 0
    for takes, places in table.items():
        if takes is None or takes(symbol):
            found |= places
    return found
