"""Patterns as automata: they fit what regular expressions do, in as many steps as a row is long."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from lash_hookspecs import Automaton, Exactly, Many, Maybe, One, Piece


def in_ab(symbol: str) -> bool:
    return symbol in "ab"


def in_bc(symbol: str) -> bool:
    return symbol in "bc"


PLAIN: list[tuple[Piece[str], str]] = [
    (Exactly("a"), "a"),
    (Exactly("c"), "c"),
    (One(), "."),
    (One(in_ab), "[ab]"),
    (Many(), ".*"),
    (Many(in_ab), "[ab]*"),
    (Many(in_bc), "[bc]*"),
]
PIECES = st.recursive(
    st.sampled_from(PLAIN),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(
        lambda each: (Maybe(tuple(piece for piece, _ in each)), f"(?:{''.join(text for _, text in each)})?")
    ),
    max_leaves=4,
)
PATTERNS = st.lists(st.lists(PIECES, max_size=4), min_size=1, max_size=3)


@given(PATTERNS, st.text("abc", max_size=8))
def test_each_pattern_fits_what_the_same_regular_expression_does(
    patterns: Sequence[Sequence[tuple[Piece[str], str]]], text: str
) -> None:
    found = Automaton([[piece for piece, _ in each] for each in patterns])
    fits = found.fits(text)
    for end, pattern in zip(found.ends, patterns, strict=True):
        assert bool(fits & end) is bool(re.fullmatch("".join(part for _, part in pattern), text))


def test_a_row_may_be_of_anything_that_has_a_hash() -> None:
    found = Automaton[int]([[Exactly(1), Many(lambda each: each > 1)], [Many(), Exactly(7)]])
    assert [found.fits(row) for row in ([1, 2, 3], [1, 7], [7], [0], [])] == [
        found.ends[0],
        sum(found.ends),
        found.ends[1],
        0,
        0,
    ]


@pytest.mark.parametrize("piece", [Many(), Many(in_ab), Maybe((Many(), Exactly("a")))], ids=["any", "some", "maybe"])
def test_a_row_twice_as_long_takes_at_most_twice_the_steps(piece: Piece[str]) -> None:
    found = Automaton([[*[piece, Exactly("a")] * 12, Exactly("b")]])
    taken = []
    for length in (2_000, 4_000):
        before = found.steps
        assert not found.fits("a" * length + "c")
        taken.append(found.steps - before)
    assert taken[0] <= 2_001
    assert taken[1] <= 2 * taken[0]


def test_what_is_remembered_has_a_limit() -> None:
    found = Automaton[int]([[Many(), Exactly(1)]])
    assert found.fits([*range(2, 20_000), 1])
    assert sum(map(len, found._rows.values())) <= 4096
    assert len(found._known) <= 4096
