"""Chat Completions against the contract's kit: a real server, on asyncio and on trio; and its decoder, fuzzed."""

from __future__ import annotations

import pytest
from openai_chat_wire import ChatWire, OpenRouterWire

from lash_hookspecs.testing.provider import ProviderCase, conformance, decoding, provider_cases, soak

test_openai_chat = conformance(ChatWire())
test_openai_chat_decoding = decoding(ChatWire())


@pytest.mark.parametrize("events", [3_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_no_damage_goes_unnoticed(events: int) -> None:
    """Whatever becomes of an answer on its way, the outcome has a type, wherever it is cut."""
    assert soak(ChatWire(), events) >= events


SEALED = [case for case in provider_cases(OpenRouterWire()) if "sealed" in case.needs or case.id.startswith("replay.")]


@pytest.mark.parametrize("case", SEALED, ids=lambda case: str(case.id))
async def test_openrouter_state(case: ProviderCase) -> None:
    """What OpenRouter's dialect has and OpenAI's hasn't."""
    await case.run(OpenRouterWire())


test_openrouter_decoding = decoding(OpenRouterWire())
