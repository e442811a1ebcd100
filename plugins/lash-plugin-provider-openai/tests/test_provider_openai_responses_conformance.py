"""The Responses API against the contract's kit: a real server, on asyncio and on trio; and its decoder, fuzzed."""

from __future__ import annotations

import pytest
from openai_responses_wire import ResponsesWire

from lash_hookspecs.testing.provider import conformance, decoding, soak

pytestmark = pytest.mark.costly  # what differs between Pythons is shown by `openai-chat`

test_openai_responses = conformance(ResponsesWire())
test_openai_responses_decoding = decoding(ResponsesWire())


@pytest.mark.parametrize("events", [3_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_no_damage_goes_unnoticed(events: int) -> None:
    """Whatever becomes of an answer on its way, the outcome has a type, wherever it is cut."""
    assert soak(ResponsesWire(), events) >= events
