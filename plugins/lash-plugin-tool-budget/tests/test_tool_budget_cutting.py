"""Cutting by itself: what is kept, and that nothing is split."""

from __future__ import annotations

import random

import pytest

from lash_hookspecs import OutputEnd
from lash_plugin_tool_budget.cutting import cut, fitting_end, fitting_start
from lash_plugin_tool_budget.state import BudgetOptions

HEAD, TAIL, BOTH = OutputEnd
LINES = "".join(f"line {at}\n" for at in range(100))


def kept(text: str, keeps: OutputEnd, size: int, lines: int = 1000) -> tuple[str, str]:
    found = cut(text, keeps, size, lines)
    assert found is not None
    return found.head, found.tail


@pytest.mark.parametrize(
    ("keeps", "size", "lines", "head", "tail"),
    [
        (HEAD, 1000, 2, "line 0\nline 1\n", ""),
        (TAIL, 1000, 2, "", "line 98\nline 99\n"),
        (BOTH, 1000, 4, "line 0\nline 1\n", "line 98\nline 99\n"),
        (BOTH, 1000, 3, "line 0\n", "line 98\nline 99\n"),
        (HEAD, 17, 400, "line 0\nline 1\n", ""),
        (TAIL, 17, 400, "", "line 98\nline 99\n"),
        (HEAD, 3, 400, "lin", ""),
        (TAIL, 3, 400, "", "99\n"),
    ],
)
def test_it_keeps_the_end_that_matters_in_whole_lines(
    keeps: OutputEnd, size: int, lines: int, head: str, tail: str
) -> None:
    assert kept(LINES, keeps, size, lines) == (head, tail)


@pytest.mark.statement(80, page="plugin-system")
@pytest.mark.parametrize("text", ["", "x", "a\nb", "a\nb\n", "é" * 8, "x" * 16])
@pytest.mark.parametrize("keeps", OutputEnd)
def test_what_is_within_the_budget_is_unchanged(text: str, keeps: OutputEnd) -> None:
    """Not a character, and nothing is kept beside it."""
    assert cut(text, keeps, 16, 2) is None


@pytest.mark.statement(78, page="plugin-system")
@pytest.mark.parametrize(("keeps", "came"), [(HEAD, ("x" * 8, "")), (TAIL, ("", "x" * 8)), (BOTH, ("xxxx", "xxxx"))])
def test_a_line_that_is_too_long_is_cut_and_not_dropped(keeps: OutputEnd, came: tuple[str, str]) -> None:
    """Within it, as there is no end of a line to cut at."""
    assert kept("x" * 1000, keeps, 8) == came


@pytest.mark.statement(79, page="plugin-system")
@pytest.mark.parametrize("character", ["é", "漢", "🐈", "👩\u200d🚀"])
@pytest.mark.parametrize("keeps", OutputEnd)
def test_no_character_is_split_at_any_size(character: str, keeps: OutputEnd) -> None:
    """And nothing is kept of a budget of nothing."""
    text = character * 50
    for size in range(60):
        found = cut(text, keeps, size, 1000)
        assert found is not None
        assert len((found.head + found.tail).encode()) <= size
        assert text.startswith(found.head)
        assert text.endswith(found.tail)
    assert kept(text, keeps, 0) == ("", "")


def test_any_text_is_cut_within_its_budget_and_loses_nothing() -> None:
    chance = random.Random(7)
    for _ in range(3000):
        text = "".join(chance.choice("ab\né漢\n🐈 \r\n") for _ in range(chance.randint(0, 60)))
        size, lines, keeps = chance.randint(0, 40), chance.randint(0, 8), chance.choice([HEAD, TAIL, BOTH])
        found = cut(text, keeps, size, lines)
        if found is None:
            continue
        assert found.end - found.start > 0
        assert len((found.head + found.tail).encode()) <= size
        assert found.head.count("\n") + found.tail.count("\n") <= lines + 1
        assert (found.head.encode() + found.data[found.start : found.end] + found.tail.encode()).decode() == text


def test_places_are_between_characters() -> None:
    data = "a漢b".encode()
    assert [fitting_end(data, at) for at in range(-1, 7)] == [0, 0, 1, 1, 1, 4, 5, 5]
    assert [fitting_start(data, at) for at in range(-1, 7)] == [0, 0, 1, 4, 4, 4, 5, 5]


def test_tokens_stand_for_bytes() -> None:
    assert (BudgetOptions().size, BudgetOptions(tokens=100).size) == (16384, 400)
    with pytest.raises(ValueError, match="`lines` is -1: use a number of at least 0"):
        BudgetOptions(lines=-1)
