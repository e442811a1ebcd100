"""How long it is remembered that thinking was refused: as long as the conversation is the one that was refused."""

from __future__ import annotations

from lash_hookspecs.llm import LlmRequest, LlmRequestScope
from lash_hookspecs.llm_messages import LlmRole, llm_text
from lash_plugin_provider_anthropic.stale import StaleThinking


def asked(count: int, session: str = "s", model: str = "m") -> LlmRequest:
    scope = LlmRequestScope(session_id=session, agent_frame_id="main", request_id=f"r{count}")
    messages = [llm_text(LlmRole.USER, str(number)) for number in range(count)]
    return LlmRequest(model=model, messages=tuple(messages), scope=scope)


def test_what_the_model_thinks_later_goes_back() -> None:
    stale = StaleThinking()
    assert stale.until(asked(5)) == 0
    stale.found(asked(5))
    assert [stale.until(asked(count)) for count in (5, 7)] == [5, 5]
    assert (stale.until(asked(7, session="t")), stale.until(asked(7, model="n"))) == (0, 0)


def test_a_conversation_that_got_shorter_is_another_one() -> None:
    """It was compacted: its thinking is of a conversation that nobody has refused, also once it is as long again."""
    stale = StaleThinking()
    stale.found(asked(5))
    assert [stale.until(asked(count)) for count in (3, 5, 9)] == [0, 0, 0]
