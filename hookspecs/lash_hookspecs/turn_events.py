"""What a turn shows while it runs, to whoever watches and to the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Union

from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.llm import LlmCallError, LlmTerminalReason, ProviderFailureKind, TokenUsage
from lash_hookspecs.messages import Message, PluginMessage
from lash_hookspecs.tool_interventions import ToolIntervention
from lash_hookspecs.tools import ToolCallOutput
from lash_hookspecs.turn_outcomes import TurnOutcome
from lash_hookspecs.values import frozen

__all__ = [
    "ChildTokenUsage",
    "DoneEvent",
    "ErrorEnvelope",
    "ErrorEvent",
    "InjectedMessagesCommitted",
    "LlmErrorLog",
    "LlmRequestEvent",
    "LlmResponseEvent",
    "PluginEvent",
    "ReasoningDelta",
    "SessionEvent",
    "TextDelta",
    "TokenUsageEvent",
    "ToolCallEvent",
    "ToolCallStart",
    "TurnOutcomeEvent",
]


@frozen(kw_only=True)
class ErrorEnvelope:
    """An error in a form for programs and people. `raw` is cut in its middle above 4,000 characters."""

    kind: str
    user_message: str
    code: str | None = None
    terminal_reason: LlmTerminalReason | None = None
    raw: str | None = None
    retryable: bool | None = None
    provider_failure_kind: ProviderFailureKind | None = None
    plugin_id: str | None = None


@frozen
class TextDelta:
    """More text of the answer."""

    tag: ClassVar[str] = "text_delta"
    content: str


@frozen
class ReasoningDelta:
    """More text of the reasoning."""

    tag: ClassVar[str] = "reasoning_delta"
    content: str


@frozen(kw_only=True)
class ToolCallStart:
    """A tool call begins."""

    tag: ClassVar[str] = "tool_call_start"
    call_id: str
    name: str
    args: Mapping[str, Any]


@frozen(kw_only=True)
class ToolCallEvent:
    """A tool call ended. `duration_ms` in milliseconds; `parent_call_id` names the call whose tool made this one."""

    tag: ClassVar[str] = "tool_call"
    call_id: str | None
    name: str
    args: Mapping[str, Any]
    output: ToolCallOutput
    duration_ms: int
    parent_call_id: str | None = None
    interventions: tuple[ToolIntervention, ...] = ()


@frozen(kw_only=True)
class LlmRequestEvent:
    """A model is asked. `tool_list` are the names of the tools offered."""

    tag: ClassVar[str] = "llm_request"
    protocol_iteration: int
    message_count: int
    tool_list: tuple[str, ...] = ()


@frozen(kw_only=True)
class LlmResponseEvent:
    """A model answered with this text, joined."""

    tag: ClassVar[str] = "llm_response"
    protocol_iteration: int
    content: str


@frozen(kw_only=True)
class TokenUsageEvent:
    """Usage of one call, and of the turn so far."""

    tag: ClassVar[str] = "token_usage"
    protocol_iteration: int
    usage: TokenUsage
    cumulative: TokenUsage


@frozen(kw_only=True)
class ChildTokenUsage:
    """Usage of a child session's turn, cumulative for that turn."""

    tag: ClassVar[str] = "child_token_usage"
    session_id: str
    source: str
    model: str
    protocol_iteration: int
    usage: TokenUsage
    cumulative: TokenUsage


@frozen(kw_only=True)
class InjectedMessagesCommitted:
    """Messages that a checkpoint added: of plugins, and `inputs`, which users said meanwhile."""

    tag: ClassVar[str] = "injected_messages_committed"
    messages: tuple[PluginMessage, ...]
    checkpoint: CheckpointKind
    inputs: tuple[Message, ...] = ()


@frozen(kw_only=True)
class PluginEvent:
    """A plugin reports something to whoever watches. `payload` is plain JSON data."""

    tag: ClassVar[str] = "plugin_event"
    plugin_id: str
    name: str
    payload: Any = None


@frozen
class TurnOutcomeEvent:
    """How the turn ends."""

    tag: ClassVar[str] = "turn_outcome"
    outcome: TurnOutcome


@frozen
class DoneEvent:
    """The turn is over."""

    tag: ClassVar[str] = "done"


@frozen
class ErrorEvent:
    """Something went wrong. Without an envelope its kind is `runtime`."""

    tag: ClassVar[str] = "error"
    message: str
    envelope: ErrorEnvelope | None = None


SessionEvent = Union[
    TextDelta,
    ReasoningDelta,
    ToolCallStart,
    ToolCallEvent,
    LlmRequestEvent,
    LlmResponseEvent,
    TokenUsageEvent,
    ChildTokenUsage,
    InjectedMessagesCommitted,
    PluginEvent,
    TurnOutcomeEvent,
    DoneEvent,
    ErrorEvent,
]


@frozen(kw_only=True)
class LlmErrorLog:
    """A failed model call, for a log."""

    tag: ClassVar[str] = "llm_error"
    session_id: str
    protocol_iteration: int
    error: LlmCallError
