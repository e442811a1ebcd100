"""The ring that observers read from, alone: what a reader gets has no hole that nobody tells it of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from lash_framework.ring import Ring

GAP = "gap"


class Reader:
    """Reads one by one, and takes a gap for what it is told is missing."""

    def __init__(self, ring: Ring[int], place: int) -> None:
        self.ring = ring
        self.place = place
        self.got: list[Any] = []

    def read(self) -> None:
        """One entry or one gap; nothing if nothing is new."""
        if not self.ring.holds(self.place):
            self.got.append(GAP)
            self.place = self.ring.end
        elif self.place < self.ring.end:
            self.got.append(self.ring.after(self.place))
            self.place += 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 5)),
        st.tuples(st.just("skip"), st.just(0)),
        st.tuples(st.just("read"), st.integers(0, 2)),
        st.tuples(st.just("return"), st.integers(0, 2)),
    ),
    max_size=60,
)


@pytest.mark.statement(47, page="effects")
@given(size=st.integers(1, 7), steps=steps)
def test_whoever_reads_gets_everything_or_is_told_of_a_gap_exactly_there(
    size: int, steps: list[tuple[str, int]]
) -> None:
    """Three readers of any speed, who also leave and come back with their place, read any course of events."""
    ring: Ring[int] = Ring(size)
    published: list[int | None] = []  # None is a hole
    readers = [Reader(ring, 0) for _ in range(3)]
    for step, number in steps:
        match step:
            case "publish":
                entries = [len(published) + each for each in range(number)]
                published += entries
                ring.publish(entries)
            case "skip":
                published.append(None)
                ring.skip()
            case "read":
                reader = readers[number]
                missing = [each for each in range(reader.place, len(published)) if not kept(published, size, each)]
                before, place = len(reader.got), reader.place
                reader.read()
                # Never silence, never a gap without need: this is the whole law, for one read.
                if missing:
                    assert reader.got[before:] == [GAP]
                    assert reader.place == len(published)
                elif place < len(published):
                    assert reader.got[before:] == [published[place]]
                else:
                    assert reader.got[before:] == []
            case "return":
                came_back = Reader(ring, readers[number].place)
                came_back.got = readers[number].got
                readers[number] = came_back
    assert ring.end == len(published)
    for reader in readers:
        while reader.place < ring.end:
            reader.read()
        entries = [each for each in reader.got if each != GAP]
        assert entries == sorted(set(entries)), "in order, and none twice"


def kept(published: list[int | None], size: int, at: int) -> bool:
    """Whether an entry must be there still: it is one of the last, and no hole is behind it, or it."""
    return published[at] is not None and at >= len(published) - size and None not in published[at:]


def test_a_ring_keeps_no_more_than_its_size() -> None:
    ring: Ring[int] = Ring(3)
    ring.publish(range(10))
    assert [ring.holds(place) for place in (5, 6, 7, 10, 11)] == [False, False, True, True, False]
    assert [ring.after(place) for place in (7, 8, 9)] == [7, 8, 9]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_hole_is_behind_everything_that_was_there(size: int) -> None:
    ring: Ring[str] = Ring(size)
    ring.publish(["a"])
    ring.skip()
    assert (ring.end, ring.hole) == (2, 2)
    assert not ring.holds(1)
    assert ring.holds(2)
    ring.publish(["b"])
    assert ring.after(2) == "b"
