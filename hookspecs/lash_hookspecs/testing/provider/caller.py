"""Clients of a provider under test: they ask, and note down what is streamed, and which waits are wanted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    LlmCallError,
    LlmRequest,
    LlmResponse,
    LlmStreamEvent,
    RetryStatus,
    StreamDelta,
    StreamReasoningDelta,
)
from lash_hookspecs.testing.provider.asking import asked

__all__ = ["KEY", "Caller", "Client", "unheard"]

KEY = "Zq7-secret-0123456789abcdefghijklmnopqrstuvwxyz"
"""The key of every provider under test; no text may hold it.

It has the shape of no service's keys: who hides what looks like one must hide this because it is the provider's.
"""


async def unheard(events: Sequence[LlmStreamEvent]) -> None:
    """Nobody listens to what is streamed."""


class Client(ABC):
    """One provider's client. `events` are what was streamed to it, `waits` the seconds between attempts."""

    def __init__(self, provider: Any = None) -> None:
        self.provider = provider
        self.events: list[LlmStreamEvent] = []
        self.waits: list[float] = []

    async def call(self, request: LlmRequest | None = None) -> LlmResponse:
        """The answer. What was streamed is in `events` when this returns, or raises."""
        answer = await self.provider.complete(request or asked(), self.listen)
        if not isinstance(answer, LlmResponse):
            raise AssertionError(f"`complete` returned {answer!r}, where a `LlmResponse` was expected")
        return answer

    @abstractmethod
    async def ask(self, request: LlmRequest | None = None) -> LlmResponse:
        """The same, with a provider that this opens or closes."""

    async def fail(self, request: LlmRequest | None = None) -> LlmCallError:
        """Why there is no answer."""
        try:
            answer = await self.ask(request)
        except LlmCallFailed as failed:
            return failed.error
        raise AssertionError(f"the call was answered, where it had to fail: {answer!r}")

    async def listen(self, events: Sequence[LlmStreamEvent]) -> None:
        """Take what is streamed."""
        self.events.extend(events)

    async def sleep(self, seconds: float) -> None:
        """Note a wait down, without waiting."""
        self.waits.append(seconds)

    @property
    def text(self) -> str:
        """The deltas of text, joined."""
        return "".join(each.text for each in self.events if isinstance(each, StreamDelta))

    @property
    def reasoning(self) -> str:
        """The deltas of reasoning, joined."""
        return "".join(each.text for each in self.events if isinstance(each, StreamReasoningDelta))

    @property
    def retries(self) -> list[RetryStatus]:
        """What was told of waits."""
        return [each for each in self.events if isinstance(each, RetryStatus)]


class Caller(Client):
    """A provider that is opened for one call, for what is its own: settings, headers, its service's words.

    ::

        def calling(server, **settings):
            caller = Caller()
            caller.provider = AcmeProvider(AcmeSettings(url=server.origin, key=KEY, **settings), sleep=caller.sleep)
            return caller

        with WireServer(status(418, {"error": "teapot"})) as server:
            assert (await calling(server).fail()).code == "teapot"

    `call` leaves the provider open, for calls that follow; `ask` and `fail` close it.
    """

    async def ask(self, request: LlmRequest | None = None) -> LlmResponse:
        """The answer to the last call."""
        try:
            return await self.call(request)
        finally:
            await self.provider.aclose()

    async def fail(self, request: LlmRequest | None = None) -> LlmCallError:
        """Why the last call has no answer. Neither that nor the provider may show `KEY`."""
        error = await super().fail(request)
        for shown in (repr(error), repr(self.provider)):
            if KEY in shown:
                raise AssertionError(f"the key is shown in {shown}")
        return error
