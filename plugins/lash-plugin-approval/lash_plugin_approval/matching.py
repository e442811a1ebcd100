"""Whether a text fits a pattern, one character after the other: a text twice as long takes twice the steps. Pure.

A pattern is a row of places. From each a text may go on to the next by one character, stay by some, or skip ahead by
none; where it may be after each character is the set of places that count. A set is one number, and what it becomes
is remembered, so that a text costs a look-up for each of its characters. No text makes it try anything twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from lash_hookspecs.values import frozen

__all__ = ["ANY", "Matcher", "Piece"]

REMEMBERED = 4096
"""How many steps a pattern remembers; then it begins anew."""


@frozen
class Piece:
    """What stands in a pattern: `one` character, or a run of `some` or none; `above` and `below` are those of paths.

    `above`, as in "**/": nothing, or anything and a slash. `below`, as in "/**": nothing, or a slash and anything.
    `but` are the characters that it isn't; a piece of `only` is this one.
    """

    kind: Literal["one", "some", "above", "below"]
    but: frozenset[str] = frozenset()
    only: str = ""

    def takes(self, character: str) -> bool:
        """Whether it may be this character."""
        return character == self.only if self.only else character not in self.but


ANY = Piece("some")
_SLASH = Piece("one", only="/")


class Matcher:
    """A pattern, to be held against texts. `steps` counts what had to be worked out, for tests."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._goes: list[Piece | None] = [None]
        self._stays: list[list[Piece]] = [[]]
        skips: list[tuple[int, int]] = []
        for piece in pieces:
            here = len(self._goes) - 1
            if piece.kind == "one":
                self._goes[here] = piece
                self._add(1)
            elif piece.kind == "some":
                self._stays[here].append(piece)
            else:
                self._add(3)
                inner = here + 1 if piece.kind == "above" else here + 2
                self._stays[inner].append(ANY)
                self._goes[here + 1] = _SLASH
                skips += [(here, here + 1), (here, here + 3), (here + 2, here + 3)]
        self._skips = dict.fromkeys(range(len(self._goes)), 0)
        for start, end in skips:
            self._skips[start] |= 1 << end
        self._last = 1 << (len(self._goes) - 1)
        self._first = self._closed(1)
        self._rows: dict[int, dict[str, int]] = {}
        self._remembered = 0
        self.steps = 0

    def _add(self, places: int) -> None:
        self._goes += [None] * places
        self._stays += [[] for _ in range(places)]

    def fits(self, text: str) -> bool:
        """Whether the whole text fits."""
        rows, at = self._rows, self._first
        for character in text:
            row = rows.get(at)
            new = None if row is None else row.get(character)
            if new is None:
                new = self._step(at, character)
            if not new:
                return False
            at = new
        return bool(at & self._last)

    def _step(self, at: int, character: str) -> int:
        """Where a text may be after this character."""
        self.steps += 1
        new, rest = 0, at
        while rest:
            low = rest & -rest
            rest ^= low
            place = low.bit_length() - 1
            go = self._goes[place]
            if go is not None and go.takes(character):
                new |= low << 1
            if any(each.takes(character) for each in self._stays[place]):
                new |= low
        new = self._closed(new)
        if self._remembered >= REMEMBERED:
            self._rows.clear()
            self._remembered = 0
        self._rows.setdefault(at, {})[character] = new
        self._remembered += 1
        return new

    def _closed(self, places: int) -> int:
        """These, and all that they may skip to: always ahead."""
        rest = places
        while rest:
            low = rest & -rest
            more = self._skips[low.bit_length() - 1] & ~places
            places |= more
            rest = (rest ^ low) | more
        return places
