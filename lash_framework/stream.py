"""What watchers see of a turn: events of the machine and of the model's stream, as activities.

Activities are handed on in lists, one per network read or per step of the machine; with nobody watching, none is made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from lash_framework.faults import storable_text
from lash_hookspecs.activity import (
    AssistantProseDelta,
    AssistantReasoningDelta,
    ChildUsage,
    ModelAttemptReset,
    ModelRequestStarted,
    PluginSurface,
    QueuedInputAccepted,
    QueuedMessagesCommitted,
    SubmittedValue,
    ToolCallCompleted,
    ToolCallStarted,
    ToolValueProduced,
    TurnActivity,
    TurnError,
    TurnEvent,
    Usage,
)
from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.llm import AttemptReset, LlmStreamEvent, RetryStatus, StreamDelta, StreamReasoningDelta
from lash_hookspecs.messages import Message
from lash_hookspecs.tools import CompletedToolCall
from lash_hookspecs.turn_events import (
    ChildTokenUsage,
    ErrorEvent,
    InjectedMessagesCommitted,
    LlmRequestEvent,
    PluginEvent,
    ReasoningDelta,
    SessionEvent,
    TextDelta,
    TokenUsageEvent,
    ToolCallEvent,
    TurnOutcomeEvent,
)
from lash_hookspecs.turn_outcomes import FinalValue, Finished, ToolValue

__all__ = ["ActivityStream", "Sink"]

Sink = Callable[[Sequence[TurnActivity]], Awaitable[None]]


class _Text:
    """Text that comes in pieces, in whole characters: half of a surrogate pair waits for the other half.

    Services that escape their JSON may cut between the two; no file and no terminal takes one alone.
    """

    def __init__(self) -> None:
        self._half = ""

    def take(self, piece: str) -> str:
        """What can be shown with this piece."""
        if not self._half and piece.isascii():
            return piece
        text = self._half + piece
        self._half = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return storable_text(text[:-1] if self._half else text)

    def forget(self) -> None:
        """What was shown is taken back; its half has no other half any more."""
        self._half = ""


class ActivityStream:
    """One turn's activities. `text_streamed` tells whether the current model call's text was shown while it came."""

    def __init__(self, turn_id: str, sink: Sink | None) -> None:
        self._turn_id = turn_id
        self._sink = sink
        self._count = 0
        self._model_call = f"{turn_id}:model:0"
        self._started: set[str] = set()
        self._completed: set[str] = set()
        self._waiting: list[TurnActivity] = []
        self._prose, self._reasoning = _Text(), _Text()
        self.text_streamed = False

    # ---- from the machine -------------------------------------------------------------------------------------------

    def show(self, event: SessionEvent) -> None:
        """Queue what this event looks like from outside, if anything; `flush` hands it over."""
        if isinstance(event, LlmRequestEvent):
            self._model_call = f"{self._turn_id}:model:{event.protocol_iteration}"
            self.text_streamed = False
            self._forget_halves()
        if self._sink is not None:
            for correlation, shown in self._translate(event):
                self._queue(correlation, shown)

    def show_queued(self, messages: tuple[Message, ...], items: tuple[int, ...], checkpoint: CheckpointKind) -> None:
        """Queue that the turn took what users said meanwhile."""
        if self._sink is not None:
            self._queue(None, QueuedInputAccepted(messages=messages, items=items, checkpoint=checkpoint))

    def _translate(self, event: SessionEvent) -> list[tuple[str | None, TurnEvent]]:
        match event:
            case TextDelta(content=text):
                return [(self._model_call, AssistantProseDelta(text))]
            case ReasoningDelta(content=text):
                return [(self._model_call, AssistantReasoningDelta(text))]
            case LlmRequestEvent(protocol_iteration=iteration):
                return [(self._model_call, ModelRequestStarted(protocol_iteration=iteration))]
            case TokenUsageEvent():
                usage = Usage(
                    protocol_iteration=event.protocol_iteration, usage=event.usage, cumulative=event.cumulative
                )
                return [(self._model_call, usage)]
            case ChildTokenUsage():
                child = ChildUsage(
                    session_id=event.session_id,
                    source=event.source,
                    model=event.model,
                    protocol_iteration=event.protocol_iteration,
                    usage=event.usage,
                    cumulative=event.cumulative,
                )
                return [(None, child)]
            case ToolCallEvent(call_id=call_id) if call_id not in self._completed:
                # Calls that never ran (their arguments were no JSON object), or were cancelled, still begin and end.
                parent = event.parent_call_id
                began = ToolCallStarted(call_id=call_id, name=event.name, args=event.args, parent_call_id=parent)
                ended = ToolCallCompleted(
                    call_id=call_id,
                    name=event.name,
                    args=event.args,
                    output=event.output,
                    duration_ms=event.duration_ms,
                    parent_call_id=parent,
                )
                return [(call_id, ended)] if call_id in self._started else [(call_id, began), (call_id, ended)]
            case InjectedMessagesCommitted(messages=messages, checkpoint=checkpoint):
                return [(None, QueuedMessagesCommitted(messages=messages, checkpoint=checkpoint))]
            case PluginEvent():
                return [(None, PluginSurface(plugin_id=event.plugin_id, name=event.name, payload=event.payload))]
            case TurnOutcomeEvent(outcome=Finished(finish=FinalValue(value=value))):
                return [(None, SubmittedValue(value))]
            case TurnOutcomeEvent(outcome=Finished(finish=ToolValue(tool_name=name, value=value))):
                return [(None, ToolValueProduced(tool_name=name, value=value))]
            case ErrorEvent(message=message):
                return [(None, TurnError(message))]
            case _:
                return []

    # ---- from tools -------------------------------------------------------------------------------------------------

    async def tool_started(
        self, call_id: str, name: str, args: Mapping[str, Any], parent_call_id: str | None = None
    ) -> None:
        """A call begins to run."""
        self._started.add(call_id)
        if self._sink is not None:
            started = ToolCallStarted(call_id=call_id, name=name, args=args, parent_call_id=parent_call_id)
            self._queue(call_id, started)
            await self.flush()

    async def tool_completed(self, call: CompletedToolCall, parent_call_id: str | None = None) -> None:
        """A call ended."""
        self._completed.add(call.call_id)
        if self._sink is not None:
            ended = ToolCallCompleted(
                call_id=call.call_id,
                name=call.tool_name,
                args=call.args,
                output=call.output,
                duration_ms=call.duration_ms,
                parent_call_id=parent_call_id,
            )
            self._queue(call.call_id, ended)
            await self.flush()

    # ---- from the model's stream ------------------------------------------------------------------------------------

    async def receive(self, events: Sequence[LlmStreamEvent]) -> None:
        """Take what one network read brought: an `LlmEventSender`."""
        call, watched = self._model_call, self._sink is not None
        for event in events:
            kind = type(event)
            if kind is StreamDelta:
                self.text_streamed = self.text_streamed or watched
                if watched and (text := self._prose.take(event.text)):  # type: ignore[union-attr]  # by its type
                    self._queue(call, AssistantProseDelta(text))
            elif not watched:
                continue
            elif kind is StreamReasoningDelta:
                if text := self._reasoning.take(event.text):  # type: ignore[union-attr]  # by its type
                    self._queue(call, AssistantReasoningDelta(text))
            elif kind is AttemptReset:
                self.text_streamed = False
                self._forget_halves()
                self._queue(call, ModelAttemptReset())
            elif kind is RetryStatus:
                self._queue(call, event)  # type: ignore[arg-type]  # by its type
        await self.flush()

    def _forget_halves(self) -> None:
        self._prose.forget()
        self._reasoning.forget()

    # ---- to the watcher ---------------------------------------------------------------------------------------------

    def _queue(self, correlation_id: str | None, event: TurnEvent) -> None:
        self._count += 1
        id = f"{self._turn_id}:{self._count}"
        self._waiting.append(TurnActivity(id, correlation_id or id, event))

    async def flush(self) -> None:
        """Hand over what waits. Awaiting it is the watcher's back-pressure."""
        if self._waiting and self._sink is not None:
            batch, self._waiting = self._waiting, []
            await self._sink(batch)
