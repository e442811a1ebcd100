"""A model that says what a test tells it to, piece by piece, and what observers make of a turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from agents import agent

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import (
    AssistantProseDelta,
    AttemptReset,
    LlmEventSender,
    LlmRequest,
    LlmResponse,
    ModelAttemptReset,
    Observation,
    ObservationGap,
    Observed,
    StreamDelta,
    StreamReasoningDelta,
    TurnEnded,
    TurnEvent,
    TurnStarted,
)
from lash_plugin_provider_scripted import Reply, ScriptedProvider

Step = str | AttemptReset | StreamReasoningDelta | Callable[[], Awaitable[object] | None]


class Told(ScriptedProvider):
    """Each of its replies is told in steps: a text is streamed, a function is called, and awaited where it can be.

    How a reply ends is said by its last step, if that is a `Reply` (its calls, its error); its text is what was said.
    """

    def __init__(self, *replies: Sequence[Step | Reply]) -> None:
        super().__init__([])
        self.replies = list(replies)

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        *steps, last = self.replies.pop(0)
        end = last if isinstance(last, Reply) else Reply()
        said: list[str] = []
        for step in steps if isinstance(last, Reply) else [*steps, last]:
            if isinstance(step, str):
                said.append(step)
                await send([StreamDelta(step)])
            elif isinstance(step, (AttemptReset, StreamReasoningDelta)):
                if isinstance(step, AttemptReset):
                    said.clear()
                await send([step])
            elif callable(step) and (waits := step()) is not None:
                await waits
        # The scripted provider makes the response, and streams nothing more.
        silent = ScriptedProvider(
            [Reply(text="".join(said), tool_calls=end.tool_calls, error=end.error, terminal_reason=end.terminal_reason)]
        )

        async def nowhere(events: Any) -> None:
            pass

        self.requests.append(request)
        return await silent.complete(request, nowhere)


@asynccontextmanager
async def told(
    *replies: Sequence[Step | Reply], store: str, sets: Sequence[str] = (), **options: Any
) -> AsyncIterator[Lash]:
    """A host with such a model, on a database."""
    async with agent(Told(*replies), store=store, settings=load_settings(env={}, sets=sets), **options) as lash:
        yield lash


class Screen:
    """What somebody sees who follows an observer: the text of the reply, as it is now."""

    def __init__(self) -> None:
        self.items: list[Observation] = []
        self.text = ""
        self.ended: list[TurnEnded] = []
        self.on_gap: Callable[[], object] = lambda: None

    def show(self, item: Observation) -> None:
        self.items.append(item)
        if isinstance(item, ObservationGap):
            self.text = item.state.running.text if item.state.running else ""
            self.on_gap()
            return
        match item.activity.event:
            case TurnStarted() | ModelAttemptReset():
                self.text = ""
            case AssistantProseDelta(text=text):
                self.text += text
            case TurnEnded() as ended:
                self.ended.append(ended)

    @property
    def events(self) -> list[TurnEvent]:
        return [item.activity.event for item in self.items if isinstance(item, Observed)]

    @property
    def gaps(self) -> list[ObservationGap]:
        return [item for item in self.items if isinstance(item, ObservationGap)]

    @property
    def ids(self) -> list[str]:
        return [item.activity.id for item in self.items if isinstance(item, Observed)]


async def follow(observer: Any, screen: Screen, turns: int = 1) -> Screen:
    """Watch until so many runs of turns have ended."""
    with anyio.fail_after(10):
        async for item in observer:
            screen.show(item)
            if len(screen.ended) == turns:
                break
    return screen


async def read(observer: Any, count: int) -> list[Observation]:
    """The next so many items."""
    with anyio.fail_after(10):
        return [await anext(observer) for _ in range(count)]
