"""Credentials that expire: refreshed once for all, kept before they are used, and in no text."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import AttemptDecision, LlmResponse, LlmStreamEvent, ProviderFailureKind, TokenUsage
from lash_hookspecs.testing.provider import WireServer
from lash_hookspecs.testing.provider.server import raw, status
from lash_provider_kit import growing
from lash_provider_kit.credentials import Credential, CredentialManager, CredentialRevoked
from lash_provider_kit.service import StreamingService

NOW = 1_000_000.0
OLD = Credential(secret="old-secret-0123456789", refresh_secret="refresh-0123456789", expires_at=NOW + 10_000)


class Keeper:
    """Refreshes and keeps; counts both."""

    def __init__(self, credential: Credential = OLD, *, fails: Exception | None = None) -> None:
        self.now = NOW
        self.refreshed = 0
        self.kept: list[Credential] = []
        self.fails = fails
        self.manager = CredentialManager(
            credential, self._refresh, provider="acme", persist=self._persist, wall_clock=lambda: self.now
        )

    async def _refresh(self, old: Credential) -> Credential:
        self.refreshed += 1
        await anyio.lowlevel.checkpoint()
        if self.fails is not None:
            raise self.fails
        return Credential(secret=f"new-secret-{self.refreshed}-0123456789", expires_at=self.now + 3600)

    async def _persist(self, new: Credential) -> None:
        assert self.manager._credential is not new, "it was given out before it was kept"
        await anyio.lowlevel.checkpoint()
        self.kept.append(new)


def test_no_text_of_a_credential_holds_its_secrets() -> None:
    for text in (repr(OLD), str(OLD), f"{OLD}", f"{[OLD]}"):
        assert "secret-0123456789" not in text
        assert "refresh-0123456789" not in text


async def test_a_credential_that_lasts_is_used_as_it_is() -> None:
    keeper = Keeper()
    assert await keeper.manager.current() is OLD
    assert await CredentialManager(Credential(secret="x"), keeper._refresh, provider="acme").current()
    assert keeper.refreshed == 0


async def test_it_is_refreshed_before_it_ends_and_kept_before_it_is_used() -> None:
    keeper = Keeper()
    keeper.now = NOW + 10_000 - 299
    new = await keeper.manager.current()
    assert new.secret.startswith("new-secret-1")
    assert keeper.kept == [new]


@pytest.mark.statement(24, page="providers")
async def test_a_herd_refreshes_once() -> None:
    keeper = Keeper()
    keeper.now = NOW + 20_000
    got: list[Credential] = []

    async def one() -> None:
        got.append(await keeper.manager.current())

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(one)
    assert keeper.refreshed == 1
    assert len({each.secret for each in got}) == 1


async def test_a_herd_that_was_refused_refreshes_once() -> None:
    keeper = Keeper()
    got: list[bool] = []

    async def one() -> None:
        got.append(await keeper.manager.refused(OLD))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(one)
    assert (keeper.refreshed, got) == (1, [True] * 50)


async def test_a_revoked_credential_is_never_tried_again() -> None:
    keeper = Keeper(fails=CredentialRevoked("invalid_grant"))
    keeper.now = NOW + 9_900
    for _ in range(3):
        with pytest.raises(LlmCallFailed) as caught:
            await keeper.manager.current()
        error = caught.value.error
        assert (error.kind, error.code, error.retryable) == (ProviderFailureKind.AUTH, "credential_revoked", False)
    assert keeper.refreshed == 1


async def test_a_refresh_that_fails_leaves_a_credential_that_still_lasts() -> None:
    keeper = Keeper(fails=OSError(f"no network for {OLD.secret}"))
    keeper.now = NOW + 9_900
    assert await keeper.manager.current() is OLD
    keeper.now = NOW + 10_001
    with pytest.raises(LlmCallFailed) as caught:
        await keeper.manager.current()
    assert caught.value.error.retryable
    assert OLD.secret not in repr(caught.value.error)


async def test_a_refresh_isnt_cancelled_halfway() -> None:
    """The service may have replaced the refresh secret already: what it gave is kept, whoever goes away."""
    keeper = Keeper()
    keeper.now = NOW + 20_000
    with anyio.CancelScope() as scope:
        scope.cancel()
        await keeper.manager._successor(OLD)
    if keeper.refreshed:  # cancelled before the lock, nothing had begun
        assert keeper.kept
    assert (await keeper.manager.current()).secret.startswith("new-secret")


class Line:
    """The least of decoders: the answer's text is its data."""

    output_seen = complete = done = False
    usage: TokenUsage | None = None

    def feed(self, data: bytes, out: list[LlmStreamEvent]) -> None:
        self.complete = self.output_seen = True

    def whole(self, body: bytes, out: list[LlmStreamEvent]) -> None:
        raise AssertionError

    def finish(self) -> LlmResponse:
        return LlmResponse(full_text="hi")


async def call(server: WireServer, keeper: Keeper) -> LlmResponse:
    events: list[LlmStreamEvent] = []

    async def send(more: Sequence[LlmStreamEvent]) -> None:
        events.extend(more)

    async def sleep(seconds: float) -> None:
        raise AssertionError("nobody waits for a credential")

    service: Any = StreamingService(
        provider="acme", url=server.origin, headers={}, credentials=keeper.manager, sleep=sleep
    )
    try:
        answer: LlmResponse = await service.call(b"{}", Line, send)
        return answer
    finally:
        await service.aclose()


async def test_a_refused_credential_is_refreshed_once_and_the_call_made_again() -> None:
    keeper = Keeper()
    with WireServer(status(401), raw(b"data: hi\n\n")) as server:
        answer = await call(server, keeper)
    sent = [each.headers["authorization"] for each in server.requests]
    assert sent == [f"Bearer {OLD.secret}", f"Bearer {keeper.kept[0].secret}"]
    assert [each.decision for each in answer.failed_attempts] == [AttemptDecision.CREDENTIAL]
    assert answer.usage == TokenUsage()


async def test_it_is_refreshed_only_once_in_a_call() -> None:
    keeper = Keeper()
    with WireServer(status(401), status(401), status(401)) as server, pytest.raises(LlmCallFailed) as caught:
        await call(server, keeper)
    assert (len(server.requests), keeper.refreshed) == (2, 1)
    assert caught.value.error.kind is ProviderFailureKind.AUTH


async def test_a_secret_that_is_echoed_isnt_repeated() -> None:
    keeper = Keeper()
    with WireServer() as server:
        server.choose = lambda request: status(401, {"error": {"message": f"bad {request.headers['authorization']}"}})
        with pytest.raises(LlmCallFailed) as caught:
            await call(server, keeper)
    told = repr(caught.value.error)
    assert OLD.secret not in told
    assert keeper.kept[0].secret not in told


@pytest.mark.statement(24, page="providers")
async def test_nothing_is_refreshed_after_output_began() -> None:
    keeper = Keeper()
    with WireServer(raw(b"data: hi\n\n", b"data: x", end="cut")) as server:
        assert (await call(server, keeper)).full_text == "hi"
    assert keeper.refreshed == 0


UNFIT = {
    "a line break": "line-secret-0123\nx-more: 456789",
    "a null": "null-secret-0123\x00456789",
    "no ASCII": "accent-secret-0123-é-456789",
}


@pytest.mark.parametrize("few", [growing.FEW, 0], ids=["few", "many"])
@pytest.mark.parametrize("secret", UNFIT.values(), ids=UNFIT)
async def test_a_secret_that_no_header_may_have_is_a_typed_failure_without_it(
    secret: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over aiohttp it was a bare ValueError, over httpx a UnicodeEncodeError that holds the secret."""
    monkeypatch.setattr(growing, "FEW", few)
    keeper = Keeper(Credential(secret=secret))
    with WireServer() as server, pytest.raises(LlmCallFailed) as caught:
        await call(server, keeper)
    error = caught.value.error
    assert (error.kind, error.code, error.retryable) == (ProviderFailureKind.AUTH, "credential_unusable", False)
    assert server.requests == []
    assert keeper.refreshed == 0
    told = "".join(traceback.format_exception(caught.value)) + repr(error)
    assert "secret-0123" not in told
    assert caught.value.__context__ is None


async def test_a_line_break_behind_a_secret_is_none_of_it() -> None:
    """As with a key of the settings: files end with one."""
    with WireServer(raw(b"data: hi\n\n")) as server:
        await call(server, Keeper(Credential(secret="file-secret-0123456789\n")))
    assert server.requests[0].headers["authorization"] == "Bearer file-secret-0123456789"


async def test_a_credential_s_headers_are_made_once() -> None:
    """Refused and refreshed, it is another one; the next call has the same."""
    made: list[str] = []

    def authorize(credential: Credential) -> dict[str, str]:
        made.append(credential.secret)
        return {"x-key": credential.secret}

    keeper = Keeper()

    async def send(more: Sequence[LlmStreamEvent]) -> None:
        """Nobody listens."""

    with WireServer(raw(b"data: hi\n\n"), status(401), raw(b"data: hi\n\n"), raw(b"data: hi\n\n")) as server:
        service: Any = StreamingService(
            provider="acme", url=server.origin, headers={}, credentials=keeper.manager, authorize=authorize
        )
        for _ in range(3):
            await service.call(b"{}", Line, send)
        await service.aclose()
    assert made == [OLD.secret, keeper.kept[0].secret]
    sent = [each.headers["x-key"] for each in server.requests]
    assert sent == [OLD.secret, OLD.secret, keeper.kept[0].secret, keeper.kept[0].secret]
