"""What watchers of a turn see: activities, each with an id and the id of what it belongs to.

Activities with the same `correlation_id` belong to one row of a display: the deltas of one answer, the start and the
end of one tool call.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, Union

from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.llm import RetryStatus, TokenUsage
from lash_hookspecs.messages import Message, PluginMessage
from lash_hookspecs.sessions import AssembledTurn
from lash_hookspecs.tool_interventions import ToolIntervention
from lash_hookspecs.tools import ToolCallOutput
from lash_hookspecs.values import frozen

__all__ = [
    "AssistantProseDelta",
    "AssistantReasoningDelta",
    "ChildUsage",
    "CodeBlockCompleted",
    "CodeBlockStarted",
    "ModelAttemptReset",
    "ModelRequestStarted",
    "PluginSurface",
    "QueuedInputAccepted",
    "QueuedMessagesCommitted",
    "SubmittedValue",
    "ToolCallCompleted",
    "ToolCallProgress",
    "ToolCallStarted",
    "ToolValueProduced",
    "TurnActivity",
    "TurnEnd",
    "TurnEnded",
    "TurnError",
    "TurnEvent",
    "TurnStarted",
    "Usage",
]


@frozen(kw_only=True)
class ModelRequestStarted:
    """A model is asked; the answer's deltas carry this activity's correlation id."""

    tag: ClassVar[str] = "model_request_started"
    protocol_iteration: int


@frozen
class AssistantProseDelta:
    """More text of the answer."""

    tag: ClassVar[str] = "assistant_prose_delta"
    text: str


@frozen
class AssistantReasoningDelta:
    """More text of the reasoning."""

    tag: ClassVar[str] = "reasoning_delta"
    text: str


@frozen
class ModelAttemptReset:
    """Take back what was shown under this correlation id: the attempt failed and is made again."""

    tag: ClassVar[str] = "model_attempt_reset"


@frozen(kw_only=True)
class CodeBlockStarted:
    """Code begins to run."""

    tag: ClassVar[str] = "code_block_started"
    language: str
    code: str


@frozen(kw_only=True)
class CodeBlockCompleted:
    """Code ended. `duration_ms` in milliseconds."""

    tag: ClassVar[str] = "code_block_completed"
    language: str
    output: str
    success: bool
    duration_ms: int
    error: str | None = None
    tool_call_ids: tuple[str, ...] = ()


@frozen(kw_only=True)
class ToolCallStarted:
    """A tool call begins. `parent_call_id` is set for the children of a batch."""

    tag: ClassVar[str] = "tool_call_started"
    call_id: str | None
    name: str
    args: Mapping[str, Any]
    parent_call_id: str | None = None


@frozen
class ToolCallProgress:
    """A tool tells how far its call has come; `done` from 0 to 1, None where it doesn't know."""

    tag: ClassVar[str] = "tool_call_progress"
    text: str
    done: float | None = None


@frozen(kw_only=True)
class ToolCallCompleted:
    """A tool call ended. `duration_ms` in milliseconds; `interventions` say which plugins denied or changed it."""

    tag: ClassVar[str] = "tool_call_completed"
    call_id: str | None
    name: str
    args: Mapping[str, Any]
    output: ToolCallOutput
    duration_ms: int
    parent_call_id: str | None = None
    interventions: tuple[ToolIntervention, ...] = ()


@frozen
class SubmittedValue:
    """The turn ended in a value."""

    tag: ClassVar[str] = "submitted_value"
    value: Any


@frozen(kw_only=True)
class ToolValueProduced:
    """A tool ended the turn with a value."""

    tag: ClassVar[str] = "tool_value"
    tool_name: str
    value: Any


@frozen(kw_only=True)
class Usage:
    """Usage of one call, and of the turn so far."""

    tag: ClassVar[str] = "usage"
    protocol_iteration: int
    usage: TokenUsage
    cumulative: TokenUsage


@frozen(kw_only=True)
class ChildUsage:
    """Usage of a child session's turn."""

    tag: ClassVar[str] = "child_usage"
    session_id: str
    source: str
    model: str
    protocol_iteration: int
    usage: TokenUsage
    cumulative: TokenUsage


@frozen(kw_only=True)
class PluginSurface:
    """A plugin shows something. `payload` is plain JSON data."""

    tag: ClassVar[str] = "plugin_surface"
    plugin_id: str
    name: str
    payload: Any = None


@frozen(kw_only=True)
class QueuedMessagesCommitted:
    """Messages are in the turn's conversation now: of plugins, and `inputs`, which were accepted from the inbox before.

    Without a `checkpoint` it is the input that a turn of its own begins with.
    """

    tag: ClassVar[str] = "queued_messages_committed"
    messages: tuple[PluginMessage, ...] = ()
    checkpoint: CheckpointKind | None = None
    inputs: tuple[Message, ...] = ()


@frozen(kw_only=True)
class QueuedInputAccepted:
    """The turn took what waited in the session's inbox, where `items` are the numbers.

    At a `checkpoint` it is what users said while the turn ran; without one, it is what the turn begins with.
    """

    tag: ClassVar[str] = "queued_input_accepted"
    messages: tuple[Message, ...]
    items: tuple[int, ...]
    checkpoint: CheckpointKind | None = None


@frozen
class TurnError:
    """Something went wrong; the turn's `errors` say more."""

    tag: ClassVar[str] = "error"
    message: str


@frozen
class TurnStarted:
    """A turn begins to run, or goes on. Told to observers only: who iterates over a turn has it in hand."""

    tag: ClassVar[str] = "turn_started"
    turn_id: str


class TurnEnd(StrEnum):
    """How a run of a turn ended."""

    COMMITTED = "committed"
    INTERRUPTED = "interrupted"
    """Nothing was committed; with a journal the turn goes on, unless it is blocked."""
    SUSPENDED = "suspended"
    """It waits for a person."""


@frozen(kw_only=True)
class TurnEnded:
    """A turn runs no more. Told to observers only. `turn` is what was committed, if it was."""

    tag: ClassVar[str] = "turn_ended"
    turn_id: str
    end: TurnEnd
    turn: AssembledTurn | None = None


TurnEvent = Union[
    ModelRequestStarted,
    AssistantProseDelta,
    AssistantReasoningDelta,
    ModelAttemptReset,
    CodeBlockStarted,
    CodeBlockCompleted,
    ToolCallStarted,
    ToolCallProgress,
    ToolCallCompleted,
    SubmittedValue,
    ToolValueProduced,
    Usage,
    ChildUsage,
    RetryStatus,
    PluginSurface,
    QueuedInputAccepted,
    QueuedMessagesCommitted,
    TurnError,
    TurnStarted,
    TurnEnded,
]


@frozen
class TurnActivity:
    """One thing that happened in a turn. On the wire the event's fields stand beside the ids.

    `id` is never used again, also not by a later run of the same turn.
    """

    id: str
    correlation_id: str
    event: TurnEvent
