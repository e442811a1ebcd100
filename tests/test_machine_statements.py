"""No acceptance statement of the reference is forgotten."""

from __future__ import annotations

import pytest
from statements import PAGES, Page, marked_pages

pages = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


@pages
def test_every_statement_is_tested_or_ruled_out(page: Page) -> None:
    """Each statement has a test, or stands in a table with the reason why it can't, or why it hasn't yet."""
    told = set(page.asserted()) | set(page.not_applicable) | set(page.open)
    assert told == page.expected, sorted(told ^ page.expected)


@pages
def test_what_is_ruled_out_is_not_tested(page: Page) -> None:
    """A statement that got a test leaves the table."""
    tables = {**page.not_applicable, **page.open}
    assert len(tables) == len(page.not_applicable) + len(page.open)
    assert not set(page.asserted()) & set(tables)
    assert all(tables.values())


@pages
def test_every_test_of_a_statement_states_it(page: Page) -> None:
    """The docstring says the property in words."""
    assert page.docstring_faults() == []


def test_a_page_has_one_name() -> None:
    """A number on a page that nobody looks through would count for nothing."""
    assert marked_pages() == {page.page for page in PAGES.values()}
