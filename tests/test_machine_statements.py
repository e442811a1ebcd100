"""No acceptance statement of the turn machine is forgotten."""

from __future__ import annotations

from statements import EXPECTED, NOT_APPLICABLE, asserted, docstring_faults


def test_every_statement_is_tested_or_ruled_out():
    """Each statement has a test, or stands in the table with the reason why it can't."""
    assert set(asserted()) | set(NOT_APPLICABLE) >= EXPECTED, sorted(EXPECTED - set(asserted()) - set(NOT_APPLICABLE))


def test_what_is_ruled_out_is_not_tested():
    """A statement that got a test leaves the table."""
    assert not set(asserted()) & set(NOT_APPLICABLE)
    assert all(NOT_APPLICABLE.values())


def test_every_test_of_a_statement_states_it():
    """The docstring says the property in words."""
    assert docstring_faults() == []
