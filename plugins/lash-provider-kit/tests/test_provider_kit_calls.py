"""What a wire may know better: a URL for each call, and what its service means by a refusal."""

from __future__ import annotations

from functools import partial

import pytest
from attrs import evolve

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import LlmCallError, LlmResponse, LlmStreamEvent, ProviderFailureKind, TokenUsage
from lash_hookspecs.testing.provider import unheard
from lash_provider_kit.credentials import Credential, CredentialManager
from lash_provider_kit.failures import AttemptFailed, Seen
from lash_provider_kit.reader import MALFORMED_EVENT
from lash_provider_kit.retry import RetryPolicy
from lash_provider_kit.service import StreamingService
from lash_provider_kit.testing import Answer, ChatServer, raw, sse, status
from lash_provider_kit.transport import Timeouts

TOKEN = "a-token-that-nobody-sees"


class End:
    """A decoder that wants one event."""

    def __init__(self) -> None:
        self.output_seen = self.complete = self.done = False
        self.usage: TokenUsage | None = None

    def feed(self, data: bytes, out: list[LlmStreamEvent]) -> None:
        self.complete = self.done = True

    def whole(self, body: bytes, out: list[LlmStreamEvent]) -> None:
        self.complete = self.done = True

    def finish(self) -> LlmResponse:
        return LlmResponse()


class Strict(End):
    """One that takes no half of an event."""

    def feed(self, data: bytes, out: list[LlmStreamEvent]) -> None:
        if data != b"end":
            error = LlmCallError(message="p: half an event", code=MALFORMED_EVENT, retryable=True)
            raise AttemptFailed(error, Seen.EMPTY_STREAM)
        super().feed(data, out)

    def finish(self) -> LlmResponse:
        if not self.complete:
            raise AttemptFailed(LlmCallError(message="p: cut", retryable=True), Seen.EMPTY_STREAM)
        return super().finish()


async def test_a_call_may_have_its_own_url_over_the_same_connection() -> None:
    with ChatServer() as server:
        server.default = raw(sse("end"))
        service = StreamingService(provider="p", url=f"{server.origin}/a", headers={"x-key": "k"})
        call = partial(service.call, b"{}", End, unheard)
        await call()
        await call(url=f"{server.origin}/b?alt=sse")
        await call()
        assert [each.target for each in server.requests] == ["/a", "/b?alt=sse", "/a"]
        assert {each.headers["x-key"] for each in server.requests} == {"k"}
        assert server.connections == 1
        await service.aclose()


async def test_a_provider_may_know_more_of_a_refusal_than_its_status_says() -> None:
    """It sees the body; the hint about keys follows what it made of it, and no secret comes through."""
    seen: list[bytes] = []

    def refine(body: bytes, failure: AttemptFailed) -> None:
        seen.append(body)
        failure.error = evolve(failure.error, kind=ProviderFailureKind.AUTH, message=f"{failure.error.message} {TOKEN}")

    with ChatServer(status(400, b'{"error": "no"}')) as server:
        service = StreamingService(
            provider="p", url=server.url, headers={}, secrets=[TOKEN], auth_hint="is the key right?", refine=refine
        )
        with pytest.raises(LlmCallFailed) as caught:
            await service.call(b"{}", End, unheard)
        await service.aclose()
    assert seen == [b'{"error": "no"}']
    assert caught.value.error.kind is ProviderFailureKind.AUTH
    assert caught.value.error.message.endswith("no [redacted] (is the key right?)")


async def test_a_key_in_the_query_is_neither_shown_nor_quoted() -> None:
    said = b'{"error": {"message": "key %b is unknown", "code": "%b"}}' % (TOKEN.encode(), TOKEN.encode())
    with ChatServer(status(400, said), raw(sse("end"))) as server:
        service = StreamingService(provider="p", url=f"{server.url}?key={TOKEN}", headers={})
        with pytest.raises(LlmCallFailed) as caught:
            await service.call(b"{}", End, unheard)
        answer = await service.call(b"{}", End, unheard)
        await service.aclose()
        assert caught.value.error.message == f"p: HTTP 400 from {server.url}: key [redacted] is unknown"
        assert answer.http_summary == f"POST {server.url}: 200"
        assert TOKEN not in f"{caught.value.error!r} {service.transport!r}"
        assert {each.target for each in server.requests} == {f"/v1?key={TOKEN}"}


@pytest.mark.parametrize("before", range(1000, 1030, 7))
async def test_what_a_service_says_is_redacted_before_it_is_cut(before: int) -> None:
    """A key that stood across the cut was half shown: no half is a known secret."""
    said = b'{"error": "%b %b"}' % (b"x" * before, TOKEN.encode())
    with ChatServer(status(400, said)) as server:
        service = StreamingService(provider="p", url=server.url, headers={}, secrets=[TOKEN])
        with pytest.raises(LlmCallFailed) as caught:
            await service.call(b"{}", End, unheard)
        await service.aclose()
    assert "a-tok" not in repr(caught.value.error)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (evolve(raw(b'{"error":', end="hang"), head=raw().head.replace(b" 200 ", b" 503 ")), Seen.RESPONSE),
        (raw(b'{"choices": [', content_type="application/json", end="hang"), Seen.RESPONSE),
        (raw(b'data: {"half": ', end="hang"), Seen.RESPONSE),
        (raw(b'data: {"half": ', end="cut"), Seen.RESPONSE),
        (raw(b": a comment", end="hang"), Seen.EMPTY_STREAM),
    ],
)
async def test_whatever_of_an_answer_had_come_before_it_stopped_was_seen(answer: Answer, seen: Seen) -> None:
    """An answer that may have been charged was asked for again: only a stream's events counted as seen."""
    with ChatServer(answer) as server:
        times = Timeouts(deadline_s=1.0)
        retry = RetryPolicy(max_attempts=2, first_wait_s=0)
        service = StreamingService(provider="p", url=server.url, headers={}, timeouts=times, retry=retry)
        server.default = raw(sse("end"))
        if seen is Seen.RESPONSE:
            with pytest.raises(LlmCallFailed) as caught:
                await service.call(b"{}", Strict, unheard)
            assert caught.value.error.code == "unsafe_retry_response_observed"
            assert ("HTTP 503" in caught.value.error.message) == answer.head.startswith(b"HTTP/1.1 503")
        else:
            await service.call(b"{}", Strict, unheard)
        assert len(server.requests) == (1 if seen is Seen.RESPONSE else 2)
        await service.aclose()


async def test_why_a_credential_could_not_be_renewed_is_told_in_the_provider_s_words() -> None:
    said = LlmCallError(message="p: the command ended with 1", code="token_command_failed")

    async def renew(_: Credential) -> Credential:
        raise LlmCallFailed(said)

    manager = CredentialManager(Credential(secret="", expires_at=0.0), renew, provider="p")
    with pytest.raises(LlmCallFailed) as caught:
        await manager.current()
    assert caught.value.error is said
