"""Plugins that change what a model is shown, a model without much room, and a conversation for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve, frozen
from hook_kit import Plugin

from lash_framework import Lash
from lash_hookspecs import (
    CompactRequest,
    FrameSeed,
    LlmCallError,
    LlmRequest,
    LlmTerminalReason,
    Message,
    MessageRole,
    PreparedContext,
    SessionStateSpec,
    TokenUsage,
    TurnInput,
    hookimpl,
    text_message,
)
from lash_plugin_provider_scripted import Reply

COMPACT = TurnInput(compact=CompactRequest())
OVERFLOW = LlmCallError(message="too long", terminal_reason=LlmTerminalReason.CONTEXT_OVERFLOW, retryable=False)


def small(limit: int = 4) -> Callable[[LlmRequest], Reply]:
    """A model that takes so many messages, its prompt included."""

    def say(request: LlmRequest) -> Reply:
        if len(request.messages) > limit:
            return Reply(error=evolve(OVERFLOW, usage=TokenUsage(input=50)))
        return Reply(text=f"said {len(request.messages)}")

    return say


def summary(id: str = "sum", text: str = "SUMMARY") -> Message:
    """What stands in the place of other messages."""
    return text_message(id, MessageRole.SYSTEM, text)


class View(Plugin):
    """Shows what its function makes of the context."""

    def __init__(self, make: Callable[[Any, PreparedContext], Any], id: str = "mine") -> None:
        super().__init__(id)
        self.make = make

    @hookimpl
    async def lash_prepare_context(self, ctx: Any, prepared: PreparedContext) -> Any:
        self.calls.append(ctx)
        return self.make(ctx, prepared)


class Compactor(Plugin):
    """Returns what its function makes of the conversation; counts the calls, also in its state."""

    def __init__(self, make: Callable[[Any], Any] = lambda ctx: FrameSeed(messages=(summary(),))) -> None:
        super().__init__("squeeze")
        self.make = make

    @hookimpl
    def lash_session_state(self) -> SessionStateSpec:
        return SessionStateSpec(state=Count)

    @hookimpl
    async def lash_compact(self, ctx: Any) -> Any:
        self.calls.append((ctx.why, len(ctx.messages), ctx.instructions, ctx.context_window, ctx.context_tokens))
        ctx.set_state(Count(ctx.state.n + 1))
        return self.make(ctx)


@frozen
class Count:
    n: int = 0


async def talk(lash: Lash, *texts: str) -> Any:
    """A session in which these were said."""
    session = await lash.session("s")
    for text in texts:
        assert (await session.run(text)).is_success
    return session
