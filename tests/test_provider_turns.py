"""Turns against a real provider and a real server, for what only shows when all of it is there."""

from __future__ import annotations

import pytest
from attrs import evolve

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import AssistantProseDelta, ProviderFailureKind, Stopped, StopReason, TurnIssue
from lash_provider_kit.testing import Answer, ChatServer, raw, sse, status, text


async def failed(*answers: Answer, attempts: int = 3) -> tuple[TurnIssue, int]:
    """The one issue of a turn whose model service answers so, and how often it was asked; the session goes on after."""
    with ChatServer(*answers) as server:
        provider = {"openai-chat": {"base_url": server.url, "max_attempts": attempts}}
        settings = evolve(load_settings(env={}), provider=provider)
        async with Lash.open("sqlite://", model="openai-chat:m", settings=settings) as lash:
            session = await lash.session()
            turn = await session.run("q")
            count = len(server.requests)
            assert turn.outcome == Stopped(StopReason.PROVIDER_ERROR)
            server.answer(text("Better now."))
            assert (await session.run("and now?")).text == "Better now."
    (issue,) = turn.errors
    return issue, count


@pytest.mark.statement(83)
async def test_a_call_whose_retries_are_used_up_is_reported_as_worth_another_try_later() -> None:
    """Retry exhaustion reports retryable=true: 429 three times, and the third was the last attempt."""
    issue, count = await failed(*[status(429, headers={"retry-after": "0"})] * 3)
    assert count == 3
    assert (issue.kind, issue.retryable, issue.provider_failure_kind) == (
        "llm_provider",
        True,
        ProviderFailureKind.QUOTA,
    )


@pytest.mark.statement(83)
async def test_a_refused_request_is_reported_as_invalid_and_not_worth_another_try() -> None:
    """A 400 reports validation and retryable=false, and nothing is asked twice."""
    issue, count = await failed(status(400, {"error": {"message": "no such field", "code": "unknown_parameter"}}))
    assert count == 1
    assert (issue.retryable, issue.provider_failure_kind) == (False, ProviderFailureKind.VALIDATION)
    assert issue.code == "unknown_parameter"
    assert "no such field" in issue.message


def content(escaped: str, finish: str = "null") -> bytes:
    """An event of a stream, from a service that writes its JSON in ASCII."""
    choice = f'{{"index":0,"delta":{{"content":"{escaped}"}},"finish_reason":{finish}}}'
    return f'data: {{"id":"x","created":1,"model":"m","choices":[{choice}]}}\n\n'.encode()


async def test_a_character_that_the_service_cut_in_two_is_whole_in_the_stream_and_in_the_answer() -> None:
    r"""A service that escapes its text sent `\ud83d` and `\ude00` in two events, and the paid answer was lost."""
    answer = raw(content(r"a \ud83d"), content(r"\ude00 b \ud83d"), content("!"), content("", '"stop"'), sse("[DONE]"))
    with ChatServer(answer) as server:
        settings = evolve(load_settings(env={}), provider={"openai-chat": {"base_url": server.url}})
        async with Lash.open("sqlite://", model="openai-chat:m", settings=settings) as lash:
            session = await lash.session()
            async with session.turn("q") as running:
                seen = [each.event.text async for each in running if isinstance(each.event, AssistantProseDelta)]
                turn = await running.result()
    assert turn.text == "a \U0001f600 b \ufffd!"
    assert "".join(seen) == turn.text
