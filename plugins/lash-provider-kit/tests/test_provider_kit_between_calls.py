"""What one answer leaves for the next call, over httpx's connections and aiohttp's: nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import LlmResponse, LlmStreamEvent, ProviderFailureKind, TokenUsage
from lash_provider_kit import growing
from lash_provider_kit.retry import RetryPolicy
from lash_provider_kit.service import StreamingService
from lash_provider_kit.testing import ChatServer, raw, sse
from lash_provider_kit.transport import Timeouts


class Ended:
    """A decoder of the simplest wire: any event ends the answer."""

    output_seen = complete = done = False
    usage: TokenUsage | None = None

    def feed(self, data: bytes, out: list[LlmStreamEvent]) -> None:
        self.output_seen = self.complete = self.done = True

    def whole(self, body: bytes | bytearray, out: list[LlmStreamEvent]) -> None:
        raise AssertionError("it is no document")

    def finish(self) -> LlmResponse:
        assert self.complete
        return LlmResponse(full_text="")


async def unheard(events: Sequence[LlmStreamEvent]) -> None:
    """Nobody listens."""


@pytest.fixture(params=["few", "many"])
def carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many calls there were before: httpx carries a few of them, aiohttp many, where there is asyncio."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    if request.param == "many":
        monkeypatch.setattr(growing, "FEW", 0)


async def called(url: str, times: int) -> None:
    service = StreamingService(provider="p", url=url, headers={})
    try:
        for _ in range(times):
            await service.call(b"{}", Ended, unheard)
    finally:
        await service.aclose()


@pytest.mark.usefixtures("carrier")
async def test_a_cookie_is_given_back_to_nobody() -> None:
    """A balancer's cookie, say: it would tie all sessions of this process to one server."""
    with ChatServer(*[raw(sse("end"), headers={"set-cookie": "route=1; Path=/"})] * 3) as server:
        await called(server.url.replace("127.0.0.1", "localhost"), 3)  # a bare address gets no cookies anyway
    assert len(server.requests) == 3
    assert not any("cookie" in each.headers for each in server.requests)


@pytest.mark.usefixtures("carrier")
async def test_a_content_type_that_a_proxy_repeats_is_the_one_it_is() -> None:
    with ChatServer(raw(sse("end"), headers={"content-type": "text/event-stream; charset=utf-8"})) as server:
        await called(server.url, 1)


class Charged(Ended):
    """One whose first event tells usage, and whose end doesn't come."""

    def feed(self, data: bytes, out: list[LlmStreamEvent]) -> None:
        self.usage = TokenUsage(input=3)


@pytest.mark.usefixtures("carrier")
async def test_what_was_told_before_the_deadline_is_charged() -> None:
    with ChatServer(raw(sse("usage"), end="hang")) as server:
        service = StreamingService(
            provider="p",
            url=server.url,
            headers={},
            timeouts=Timeouts(deadline_s=1.0),
            retry=RetryPolicy(max_attempts=1),
        )
        try:
            with pytest.raises(LlmCallFailed) as failed:
                await service.call(b"{}", Charged, unheard)
        finally:
            await service.aclose()
    assert failed.value.error.code == "unsafe_retry_response_observed"
    assert failed.value.error.kind is ProviderFailureKind.TIMEOUT
    assert failed.value.error.usage == TokenUsage(input=3, at_least=True)
