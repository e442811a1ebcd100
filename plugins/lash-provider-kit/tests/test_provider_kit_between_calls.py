"""What one answer leaves for the next call, over httpx's connections and aiohttp's: nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lash_hookspecs.llm import LlmResponse, LlmStreamEvent, TokenUsage
from lash_provider_kit import growing
from lash_provider_kit.service import StreamingService
from lash_provider_kit.testing import ChatServer, raw, sse


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
