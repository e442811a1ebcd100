"""`lash_assistant_stream`: what plugins make of a reply's pieces on their way from the model to whoever watches.

It stands in the provider's own call of its sender, so a piece costs the hooks and nothing more. A reply that a plugin
ends, and a hook that fails, stop the provider by a cancel scope: no code of its own can take that for a fault to retry.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import anyio
import anyio.lowlevel
from attrs import evolve

from lash_framework.directives import owned_directives
from lash_framework.faults import IN_RESULT
from lash_framework.hooks import Bind, HookImpl, chain
from lash_framework.passed_text import PassedText
from lash_framework.stream import ActivityStream, WholeText
from lash_hookspecs.contexts import StreamHookContext
from lash_hookspecs.directives import EmitEvents
from lash_hookspecs.errors import PluginError
from lash_hookspecs.llm import (
    AttemptReset,
    LlmCallError,
    LlmEventSender,
    LlmResponse,
    LlmStreamEvent,
    LlmTerminalReason,
    StreamDelta,
    StreamReasoningDelta,
    StreamUsage,
    TextOutput,
    TokenUsage,
)
from lash_hookspecs.model_hooks import AssistantChunk
from lash_hookspecs.turn_events import PluginEvent
from lash_hookspecs.turn_interventions import TurnIntervention, TurnInterventionKind

__all__ = ["ABORTED", "CODE", "ReplyPieces"]

log = logging.getLogger("lash.turn")

CODE = "plugin_assistant_stream"
"""The code of a call whose stream hook failed."""

ABORTED = "plugin_abort_stream"
"""The code of a call that a plugin ended before anything was said."""


class ReplyPieces:
    """One reply. `bind` makes `StreamHookContext`s. `failure` is set by a hook that failed; `text_came`: in pieces."""

    def __init__(self, impls: tuple[HookImpl, ...], bind: Bind, stream: ActivityStream) -> None:
        self._impls = impls
        self._bind = bind
        self._stream = stream
        self._scope = anyio.CancelScope()
        self._usage = TokenUsage()
        self._ended: tuple[str, str] | None = None
        self.failure: PluginError | None = None
        self._begin()

    def _begin(self) -> None:
        """A first attempt, or one after another that was taken back."""
        self._text, self._reasoning = WholeText(), WholeText()
        self._passed: dict[tuple[str, str], PassedText] = {}
        self.text_came = False
        for impl in self._impls:
            ctx = self._bind(impl.plugin_id)
            assert isinstance(ctx, StreamHookContext)
            ctx.memo = {}

    async def through(self, ask: Callable[[LlmEventSender], Awaitable[object]]) -> object:
        """The provider's answer; a shorter one, or a failure, where a hook has ended it or failed."""
        answer: object = None
        try:
            with self._scope:
                answer = await ask(self._receive)
        except Exception as error:
            if not self._scope.cancel_called:
                raise
            log.debug("the provider took the end of its reply for a fault", exc_info=error)
        if self.failure is None:
            await self._show([AssistantChunk(is_last=True)])
        if self.failure is None and self._ended is None:
            return answer
        usage = answer.usage if isinstance(answer, LlmResponse) else self._usage + TokenUsage(at_least=True)
        if self.failure is not None:
            return LlmCallError(message=str(self.failure), code=CODE, usage=usage)
        assert self._ended is not None
        plugin_id, reason = self._ended
        why = f"plugin `{plugin_id}` ended the reply: {reason}"
        text, _ = self._stream.reply()
        if not text.strip():
            return LlmCallError(message=f"{why}; nothing had been said", code=ABORTED, usage=usage)
        return LlmResponse(
            full_text=text,
            parts=(TextOutput(text=text),),
            usage=usage,
            terminal_reason=LlmTerminalReason.STOP,
            terminal_diagnostic=why,
        )

    def did(self) -> tuple[TurnIntervention, ...]:
        """Who changed what was shown of the reply, and who ended it."""
        changed = dict.fromkeys(plugin_id for (plugin_id, _), each in self._passed.items() if each.is_changed)
        did = [TurnIntervention(plugin_id=each, kind=TurnInterventionKind.STREAM_CHANGED) for each in changed]
        if self._ended is not None:
            plugin_id, reason = self._ended
            did.append(TurnIntervention(plugin_id=plugin_id, kind=TurnInterventionKind.REPLY_ENDED, detail=reason))
        return tuple(did)

    def _compare(self, plugin_id: str, given: AssistantChunk, made: AssistantChunk) -> None:
        """A plugin made something else of a piece; that it holds text back until later is no change."""
        for kind, before, after in (("text", given.text, made.text), ("reasoning", given.reasoning, made.reasoning)):
            if before != after or (plugin_id, kind) in self._passed:
                self._passed.setdefault((plugin_id, kind), PassedText()).take(before, after)

    async def _receive(self, events: Sequence[LlmStreamEvent]) -> None:
        """An `LlmEventSender`."""
        if self._scope.cancel_called:  # a provider that goes on all the same
            await anyio.lowlevel.checkpoint()
            return
        await self._show(events)
        if self.failure is not None or self._ended is not None:
            self._scope.cancel()
            await anyio.lowlevel.checkpoint()

    async def _show(self, events: Sequence[LlmStreamEvent | AssistantChunk]) -> None:
        """Hand on what the hooks make of these."""
        shown: list[LlmStreamEvent] = []
        try:
            for event in events:
                if isinstance(event, StreamDelta):
                    self.text_came = True
                    if text := self._text.take(event.text):
                        shown += await self._changed(AssistantChunk(text=text))
                elif isinstance(event, StreamReasoningDelta):
                    if text := self._reasoning.take(event.text):
                        shown += await self._changed(AssistantChunk(reasoning=text))
                elif isinstance(event, AssistantChunk):
                    shown += await self._changed(event)
                else:
                    if isinstance(event, AttemptReset):
                        self._begin()
                    elif isinstance(event, StreamUsage):
                        self._usage = event.usage
                    shown.append(event)
                if self._ended is not None:
                    break
        except PluginError as error:
            log.warning("%s", error, exc_info=error, extra=IN_RESULT)
            self.failure = error
        await self._stream.receive(shown)

    async def _changed(self, chunk: AssistantChunk) -> list[LlmStreamEvent]:
        """A piece after all hooks; each adds its own events, and any of them may end the reply."""
        is_last = chunk.is_last
        for impl in self._impls:
            given = chunk
            chunk = await chain((impl,), self._bind, chunk, argname="chunk", expects=AssistantChunk)
            if chunk is not given or self._passed:
                self._compare(impl.plugin_id, given, chunk)
            if chunk.events:
                for owned in owned_directives([(impl.plugin_id, EmitEvents(chunk.events))], impl.hook):
                    for each in owned.directive.events:  # type: ignore[union-attr]  # as it was given
                        self._stream.show(PluginEvent(plugin_id=impl.plugin_id, name=each.name, payload=each.payload))
            if chunk.abort_stream is not None and self._ended is None and not is_last:
                self._ended = impl.plugin_id, chunk.abort_stream
            if chunk.events or chunk.abort_stream is not None:
                chunk = evolve(chunk, events=(), abort_stream=None)
        shown: list[LlmStreamEvent] = []
        if chunk.reasoning:
            shown.append(StreamReasoningDelta(chunk.reasoning))
        if chunk.text:
            shown.append(StreamDelta(chunk.text))
        return shown
