"""What watchers see of a turn: events of the machine and of the model's stream, as activities.

Activities are handed on in lists, one per network read or per step of the machine; with nobody watching, none is made.
What came of the reply that is under way is kept as it came, for whoever begins to watch in the middle of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
    ToolCallProgress,
    ToolCallStarted,
    ToolValueProduced,
    TurnActivity,
    TurnEnd,
    TurnEnded,
    TurnError,
    TurnEvent,
    TurnStarted,
    Usage,
)
from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.llm import AttemptReset, LlmStreamEvent, RetryStatus, StreamDelta, StreamReasoningDelta
from lash_hookspecs.messages import Message
from lash_hookspecs.sessions import AssembledTurn
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
from lash_hookspecs.values import mutable

if TYPE_CHECKING:
    from lash_framework.observing import Feed

__all__ = ["ActivityStream", "Sink", "WholeText"]

Sink = Callable[[Sequence[TurnActivity]], Awaitable[None]]


class WholeText:
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


@mutable(eq=False)
class _Call:
    """A tool call of the batch that runs, or ran last."""

    name: str
    args: Mapping[str, Any]
    parent_id: str | None
    ended: CompletedToolCall | None = None


class ActivityStream:
    """One run of a turn, as activities: for the turn's own iterator (`sink`), and for the session's observers (`feed`).

    `asking`: a model call is under way; `has_asked`: there was one that no record answered. `model_call` is the
    correlation id of the latest one.
    """

    def __init__(self, turn_id: str, sink: Sink | None, feed: Feed) -> None:
        self._turn_id = turn_id
        self._sink = sink
        self._feed = feed
        # A turn that goes on after a crash must not use the ids again that its first run has shown.
        self._run = f"{turn_id}:{feed.token_hex(4)}"
        self._count = 0
        self._calls: dict[str | None, _Call] = {}
        self._waiting: list[TurnActivity] = []
        self._heard: list[Sequence[LlmStreamEvent]] = []
        self._prose, self._reasoning = WholeText(), WholeText()
        self._is_behind = False
        self.asking = self.has_asked = False
        self.model_call = f"{self._run}:model:0"

    @property
    def _is_watched(self) -> bool:
        return self._sink is not None or self._feed.ring is not None

    # ---- from the turn ----------------------------------------------------------------------------------------------

    def began(self) -> None:
        """The turn runs; observers are told, and the iterator's owner knows."""
        self._tell(TurnStarted(self._turn_id))

    def ended(self, end: TurnEnd, turn: AssembledTurn | None = None) -> None:
        """The turn runs no more."""
        self.catch_up()
        self._tell(TurnEnded(turn_id=self._turn_id, end=end, turn=turn))

    def _tell(self, event: TurnEvent) -> None:
        if self._feed.ring is not None:
            self._queue(None, event)
            batch, self._waiting = self._waiting, []
            self._feed.publish(batch)

    # ---- from the machine -------------------------------------------------------------------------------------------

    def show(self, event: SessionEvent) -> None:
        """Queue what this event looks like from outside, if anything; `flush` hands it over."""
        if isinstance(event, LlmRequestEvent):
            self.model_call = f"{self._run}:model:{event.protocol_iteration}"
            self._calls = {}
            self._forget_reply()
        if self._is_watched:
            for correlation, shown in self._translate(event):
                self._queue(correlation, shown)

    def show_queued(self, messages: tuple[Message, ...], items: tuple[int, ...], checkpoint: CheckpointKind) -> None:
        """Queue that the turn took what users said meanwhile."""
        if self._is_watched:
            self._queue(None, QueuedInputAccepted(messages=messages, items=items, checkpoint=checkpoint))

    def show_begun_with(self, message: Message, item: int) -> None:
        """Queue that the turn has begun with an input that waited in the inbox."""
        if self._is_watched:
            self._queue(None, QueuedInputAccepted(messages=(message,), items=(item,)))
            self._queue(None, QueuedMessagesCommitted(inputs=(message,)))

    def _translate(self, event: SessionEvent) -> list[tuple[str | None, TurnEvent]]:
        match event:
            case TextDelta(content=text):
                return [(self.model_call, AssistantProseDelta(text))]
            case ReasoningDelta(content=text):
                return [(self.model_call, AssistantReasoningDelta(text))]
            case LlmRequestEvent(protocol_iteration=iteration):
                return [(self.model_call, ModelRequestStarted(protocol_iteration=iteration))]
            case TokenUsageEvent():
                usage = Usage(
                    protocol_iteration=event.protocol_iteration, usage=event.usage, cumulative=event.cumulative
                )
                return [(self.model_call, usage)]
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
            case ToolCallEvent(call_id=call_id) if not (call := self._calls.get(call_id)) or call.ended is None:
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
                    interventions=event.interventions,
                )
                return [(call_id, ended)] if call else [(call_id, began), (call_id, ended)]
            case InjectedMessagesCommitted(messages=messages, checkpoint=checkpoint, inputs=inputs):
                return [(None, QueuedMessagesCommitted(messages=messages, checkpoint=checkpoint, inputs=inputs))]
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
        self._calls[call_id] = call = _Call(name, args, parent_call_id)
        self.catch_up()
        if self._is_watched:
            self._queue(call_id, _tool_event(call_id, call))
            await self.flush()

    async def tool_pauses(self, call_id: str, status: RetryStatus) -> None:
        """A call failed, and is made again after a while."""
        if self._is_watched:
            self._queue(call_id, status)
            await self.flush()

    async def tool_shows(self, call_id: str, plugin_id: str, name: str, payload: Any = None) -> None:
        """A call that runs shows something; one that has ended, whose code goes on, shows nothing.

        Raises `CodecError` for what has no JSON form, whether or not somebody watches.
        """
        import orjson  # both here because every host imports this module, and hardly any shows something

        from lash_hookspecs.codec import MAX_NESTING, encode

        data = encode(payload, levels=MAX_NESTING)
        call = self._calls.get(call_id)
        if self._is_watched and call is not None and call.ended is None:
            self._queue(call_id, PluginSurface(plugin_id=plugin_id, name=name, payload=orjson.loads(data)))
            await self.flush()

    async def tool_progress(self, call_id: str, text: str, done: float | None = None) -> None:
        """A tool tells how far it has come; one that runs on though nobody waits for it any more is not heard."""
        call = self._calls.get(call_id)
        if self._is_watched and call is not None and call.ended is None:
            self._queue(call_id, ToolCallProgress(storable_text(text), done))
            await self.flush()

    async def tool_completed(self, done: CompletedToolCall) -> None:
        """A call ended that had begun."""
        call = self._calls[done.call_id]
        call.ended = done
        if self._is_watched:
            self._queue(done.call_id, _tool_event(done.call_id, call))
            await self.flush()

    def tool_calls(self) -> tuple[ToolCallStarted | ToolCallCompleted, ...]:
        """The calls of the batch that runs, each as it began or as it ended."""
        return tuple(_tool_event(call_id, call) for call_id, call in self._calls.items())

    # ---- from the model's stream ------------------------------------------------------------------------------------

    async def receive(self, events: Sequence[LlmStreamEvent]) -> None:
        """Take what one network read brought: an `LlmEventSender`."""
        self._heard.append(tuple(events))  # what is no sequence is refused where the provider sends it
        if self._sink is None and self._feed.ring is None:  # what nobody watches costs no more than this
            return
        call = self.model_call
        for event in events:
            kind = type(event)
            if kind is StreamDelta:
                if text := self._prose.take(event.text):  # type: ignore[union-attr]  # by its type
                    self._queue(call, AssistantProseDelta(text))
            elif kind is StreamReasoningDelta:
                if text := self._reasoning.take(event.text):  # type: ignore[union-attr]  # by its type
                    self._queue(call, AssistantReasoningDelta(text))
            elif kind is AttemptReset:
                self._prose, self._reasoning = WholeText(), WholeText()
                self._queue(call, ModelAttemptReset())
            elif kind is RetryStatus:
                self._queue(call, event)  # type: ignore[arg-type]  # by its type
        await self.flush()

    @property
    def text_streamed(self) -> bool:
        """Whether text of the reply came in pieces, so that whoever watches has it."""
        for events in reversed(self._heard):
            for event in reversed(events):
                if type(event) is StreamDelta:
                    return True
                if type(event) is AttemptReset:
                    return False
        return False

    def reply(self) -> tuple[str, str]:
        """What came of the reply that is under way, as it is shown: its text, and its reasoning."""
        prose, reasoning, said, thought = WholeText(), WholeText(), list[str](), list[str]()
        for events in self._heard:
            for event in events:
                if isinstance(event, StreamDelta):
                    said.append(prose.take(event.text))
                elif isinstance(event, StreamReasoningDelta):
                    thought.append(reasoning.take(event.text))
                elif isinstance(event, AttemptReset):
                    prose, reasoning, said, thought = WholeText(), WholeText(), [], []
        # Whoever watches from here on may be shown the other half of a character.
        self._prose, self._reasoning = prose, reasoning
        return "".join(said), "".join(thought)

    def answered(self, text_streamed: bool) -> None:
        """The model call is over. One that is answered from its record may have been streamed to others, before."""
        self._is_behind = self._is_behind or (text_streamed and not self._heard)
        self.asking = False
        self._forget_reply()

    def take_back(self) -> None:
        """What was streamed of the reply isn't what it says in the end."""
        if self._is_watched:
            self._queue(self.model_call, ModelAttemptReset())

    def catch_up(self) -> None:
        """Something runs live: what was answered from records before is told to observers as a gap with the state."""
        if self._is_behind:
            self._is_behind = False
            self._feed.skip()

    def _forget_reply(self) -> None:
        self._heard = []
        self._prose, self._reasoning = WholeText(), WholeText()

    # ---- to the watchers --------------------------------------------------------------------------------------------

    def _queue(self, correlation_id: str | None, event: TurnEvent) -> None:
        self._count += 1
        id = f"{self._run}:{self._count}"
        self._waiting.append(TurnActivity(id, correlation_id or id, event))

    async def flush(self) -> None:
        """Hand over what waits. Awaiting it is the back-pressure of the turn's iterator; observers have none."""
        if self._waiting:
            batch, self._waiting = self._waiting, []
            self._feed.publish(batch)
            if self._sink is not None:
                await self._sink(batch)


def _tool_event(call_id: str | None, call: _Call) -> ToolCallStarted | ToolCallCompleted:
    if call.ended is None:
        return ToolCallStarted(call_id=call_id, name=call.name, args=call.args, parent_call_id=call.parent_id)
    return ToolCallCompleted(
        call_id=call_id,
        name=call.ended.tool_name,
        args=call.ended.args,
        output=call.ended.output,
        duration_ms=call.ended.duration_ms,
        parent_call_id=call.parent_id,
        interventions=call.ended.interventions,
    )
