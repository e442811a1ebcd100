"""Calls at the edges of what settings, services and listeners do, on real sockets."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from lash_hookspecs.errors import ConfigurationError, LlmCallFailed
from lash_hookspecs.llm import LlmCallError, LlmRequest, LlmResponse, LlmStreamEvent, ProviderFailureKind
from lash_hookspecs.llm_messages import LlmRole, llm_text
from lash_plugin_provider_openai.provider import OpenAiChatProvider
from lash_plugin_provider_openai.settings import OpenAiChatSettings
from lash_provider_kit.testing import ChatServer, chunk, document, stream, text

ASKED = LlmRequest(model="m", messages=(llm_text(LlmRole.USER, "Hi"),))
SECRET = "a-gateways-own-key"


async def unheard(events: Sequence[LlmStreamEvent]) -> None:
    """Nobody listens."""


async def asked(base_url: str, send: Any = unheard, **settings: Any) -> LlmResponse | LlmCallError:
    provider = OpenAiChatProvider(OpenAiChatSettings(base_url=base_url, api_key="sk-0123456789", **settings))
    try:
        return await provider.complete(ASKED, send)
    except LlmCallFailed as failed:
        return failed.error
    finally:
        await provider.aclose()


async def test_a_key_in_the_query_stays_out_of_the_log_behind_a_proxy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """httpx's client writes each request's URL to the log, which most programs keep from INFO on."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ChatServer(text("Hello")) as proxy, caplog.at_level(logging.INFO):
        monkeypatch.setenv("http_proxy", proxy.origin)
        answer = await asked(f"http://gateway.example/v1?key={SECRET}")
    assert isinstance(answer, LlmResponse)
    assert proxy.requests[0].target == f"http://gateway.example/v1/chat/completions?key={SECRET}"
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "base_url",
    [
        "http://gateway\n.example/v1",
        f"http://gateway.example/v1?key={SECRET}\n&v=1",
        "http://gateway.example/v1\x00",
        "http://gate\tway.example/v1",
    ],
    ids=["line in host", "line in query", "nul", "tab"],
)
def test_a_url_with_a_line_break_in_it_is_the_settings_fault(base_url: str) -> None:
    """As one that was pasted in two lines; what names it mustn't quote the key."""
    with pytest.raises(ConfigurationError, match=r"provider\.openai-chat\.base_url") as refused:
        OpenAiChatProvider(OpenAiChatSettings(base_url=base_url))
    assert SECRET not in str(refused.value)
    assert OpenAiChatProvider(OpenAiChatSettings(base_url=" http://gateway.example/v1\n"))  # around it they are nothing


@pytest.mark.parametrize("base_url", ["http://g\u00e4teway..example/v1", f"http://gateway.example/{'v' * 70_000}"])
async def test_a_url_that_no_request_can_have_is_a_failure_of_the_call(base_url: str) -> None:
    error = await asked(base_url)
    assert isinstance(error, LlmCallError)
    assert (error.kind, error.code) == (ProviderFailureKind.VALIDATION, "bad_request")
    assert not error.retryable


async def test_a_stream_that_says_it_is_done_without_an_end_was_cut() -> None:
    """The connection stays open behind `[DONE]`; that isn't a deadline of five minutes that has passed."""
    with ChatServer(stream(chunk({"content": "Hel"}), end="hang")) as server:
        error = await asked(server.url, retry="lenient", max_attempts=1)
    assert isinstance(error, LlmCallError)
    assert (error.code, error.kind) == ("stream_cut", ProviderFailureKind.STREAM)
    assert "300 s" not in error.message


async def test_a_listener_that_takes_its_time_gets_all_of_a_document() -> None:
    """The deadline is the service's, as it is in a stream."""
    deadlines: list[float] = []

    async def listen(events: Sequence[LlmStreamEvent]) -> None:
        deadlines.append(anyio.current_effective_deadline())

    answer = {"id": "a", "model": "m", "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}
    with ChatServer(document(answer)) as server:
        found = await asked(server.url, listen)
    assert isinstance(found, LlmResponse)
    assert deadlines == [math.inf]
