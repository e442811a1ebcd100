"""A turn: what goes in, what the machine and its driver say to each other, and how it ends.

The turn machine is pure; a `ProtocolDriver` answers its four questions with `Step`s. Effects are what the machine wants
done, responses what came of it. A snapshot is plain data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Protocol, Union

from attrs import frozen

from lash_hookspecs.checkpoints import CheckpointDelivery, CheckpointKind
from lash_hookspecs.llm import (
    LlmCallError,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    LlmToolSpec,
    ProviderFailureKind,
    TokenUsage,
)
from lash_hookspecs.messages import Message, PluginMessage, TurnCause
from lash_hookspecs.tools import CompletedToolCall, ExecResponse, InvalidToolCall, PendingToolCall, ToolCallOutput

__all__ = [
    "AssistantMessage",
    "Checkpoint",
    "CheckpointDone",
    "CheckpointResumeAction",
    "ChildTokenUsage",
    "Continuation",
    "Done",
    "DoneEvent",
    "DriverContextView",
    "Effect",
    "Emit",
    "EnvironmentSynced",
    "ErrorEnvelope",
    "ErrorEvent",
    "ExecCode",
    "ExecDone",
    "ExecutionEnvironmentSync",
    "FinalValue",
    "Finish",
    "Finished",
    "Handoff",
    "InjectedMessagesCommitted",
    "LlmCall",
    "LlmComplete",
    "LlmDebug",
    "LlmErrorLog",
    "LlmRequestEvent",
    "LlmResponseEvent",
    "Log",
    "LogEvent",
    "MachineSnapshot",
    "PluginEvent",
    "PrepareIteration",
    "Progress",
    "ProtocolDriver",
    "ProtocolEvent",
    "ReasoningDelta",
    "Response",
    "SessionEvent",
    "StartCheckpoint",
    "StartExec",
    "StartLlm",
    "StartTools",
    "Step",
    "StopReason",
    "Stopped",
    "SubmittedError",
    "SyncExecutionEnvironment",
    "TerminationPolicy",
    "TextDelta",
    "TokenUsageEvent",
    "ToolCallEvent",
    "ToolCallStart",
    "ToolCalls",
    "ToolFailed",
    "ToolResults",
    "ToolValue",
    "TurnOutcome",
    "TurnOutcomeEvent",
    "Waiting",
]


# ---- outcomes -------------------------------------------------------------------------------------------------------


@frozen
class AssistantMessage:
    """The model answered in words."""

    tag: ClassVar[str] = "assistant_message"
    text: str


@frozen
class FinalValue:
    """The turn ended in a value: code submitted it, or the answer was asked for in a schema."""

    tag: ClassVar[str] = "final_value"
    value: Any


@frozen
class ToolValue:
    """A tool ended the turn with a value."""

    tag: ClassVar[str] = "tool_value"
    tool_name: str
    value: Any


Finish = Union[AssistantMessage, FinalValue, ToolValue]


class StopReason(StrEnum):
    """Why a turn ended without an answer, where no value explains it."""

    CANCELLED = "cancelled"
    INCOMPLETE = "incomplete"
    INVALID_INPUT = "invalid_input"
    MAX_TURNS = "max_turns"
    TOOL_FAILURE = "tool_failure"
    PROVIDER_ERROR = "provider_error"
    PLUGIN_ABORT = "plugin_abort"
    RUNTIME_ERROR = "runtime_error"
    SUBMITTED_ERROR = "submitted_error"
    TOOL_ERROR = "tool_error"


@frozen
class SubmittedError:
    """Code submitted this value as its error."""

    tag: ClassVar[str] = "submitted_error"
    value: Any


@frozen
class ToolFailed:
    """A tool ended the turn as failed."""

    tag: ClassVar[str] = "tool_error"
    tool_name: str
    value: Any


@frozen
class Finished:
    """The turn reached its end."""

    tag: ClassVar[str] = "finished"
    finish: Finish


@frozen
class Handoff:
    """Another session goes on."""

    tag: ClassVar[str] = "handoff"
    session_id: str


@frozen
class Stopped:
    """The turn ended early. `detail` is set for the reasons that carry a value."""

    tag: ClassVar[str] = "stopped"
    reason: StopReason
    detail: SubmittedError | ToolFailed | None = None


TurnOutcome = Union[Finished, Handoff, Stopped]


@frozen
class TerminationPolicy:
    """How a turn without a proper end is judged."""

    treat_missing_done_as_failure: bool = True


# ---- session events: what a turn shows while it runs ----------------------------------------------------------------


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
    """Messages that a checkpoint added."""

    tag: ClassVar[str] = "injected_messages_committed"
    messages: tuple[PluginMessage, ...]
    checkpoint: CheckpointKind


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
class LlmDebug:
    """A model call, in full, for a trace."""

    tag: ClassVar[str] = "llm_debug"
    session_id: str
    protocol_iteration: int
    usage: TokenUsage
    response_text: str
    provider_usage: Mapping[str, Any] | None = None
    request_body: str | None = None


@frozen(kw_only=True)
class LlmErrorLog:
    """A failed model call, for a log."""

    tag: ClassVar[str] = "llm_error"
    session_id: str
    protocol_iteration: int
    error: LlmCallError


LogEvent = Union[LlmDebug, LlmErrorLog]


# ---- effects: what the machine wants done ---------------------------------------------------------------------------


@frozen(kw_only=True)
class ProtocolEvent:
    """An opaque record that a driver keeps in the session's graph; only its own plugin reads `payload`."""

    plugin_id: str
    payload: Any


@frozen(kw_only=True)
class ExecutionEnvironmentSync:
    """A refreshed prompt and tool list."""

    system_prompt: str
    tool_specs: tuple[LlmToolSpec, ...]


@frozen(kw_only=True)
class SyncExecutionEnvironment:
    """Bring prompt and tools up to date. Without `update_machine_config` the machine keeps what it was built with."""

    tag: ClassVar[str] = "sync_execution_environment"
    id: int
    update_machine_config: bool


@frozen(kw_only=True)
class LlmCall:
    """Ask the model."""

    tag: ClassVar[str] = "llm_call"
    id: int
    request: LlmRequest


@frozen(kw_only=True)
class ToolCalls:
    """Run these tool calls; results are owed in this order."""

    tag: ClassVar[str] = "tool_calls"
    id: int
    calls: tuple[PendingToolCall, ...]


@frozen(kw_only=True)
class ExecCode:
    """Run this block of code."""

    tag: ClassVar[str] = "exec_code"
    id: int
    language: str
    code: str


@frozen(kw_only=True)
class Checkpoint:
    """Let plugins add to the turn."""

    tag: ClassVar[str] = "checkpoint"
    id: int
    kind: CheckpointKind


@frozen
class Log:
    """Tell the log; nothing is owed."""

    tag: ClassVar[str] = "log"
    event: LogEvent


@frozen
class Emit:
    """Show whoever watches; nothing is owed."""

    tag: ClassVar[str] = "emit"
    event: SessionEvent


@frozen(kw_only=True)
class Progress:
    """The conversation advanced. `new_messages` and `event_delta` are what was added since the last report."""

    tag: ClassVar[str] = "progress"
    new_messages: tuple[Message, ...]
    event_delta: tuple[ProtocolEvent, ...]
    protocol_iteration: int


@frozen(kw_only=True)
class Done:
    """The turn is over: always the last effect. Deltas as in `Progress`."""

    tag: ClassVar[str] = "done"
    new_messages: tuple[Message, ...]
    event_delta: tuple[ProtocolEvent, ...]
    protocol_iteration: int
    outcome: TurnOutcome


Effect = Union[SyncExecutionEnvironment, LlmCall, ToolCalls, ExecCode, Checkpoint, Log, Emit, Progress, Done]
WaitingEffect = Union[SyncExecutionEnvironment, LlmCall, ToolCalls, ExecCode, Checkpoint]


# ---- responses: what came of it -------------------------------------------------------------------------------------


@frozen(kw_only=True)
class EnvironmentSynced:
    """The environment is up to date; `error` says why not."""

    tag: ClassVar[str] = "environment_synced"
    id: int
    update: ExecutionEnvironmentSync | None = None
    error: str | None = None


@frozen(kw_only=True)
class LlmComplete:
    """The model answered or failed. `text_streamed`: watchers have seen the text already."""

    tag: ClassVar[str] = "llm_complete"
    id: int
    result: LlmResponse | LlmCallError
    text_streamed: bool = False


@frozen(kw_only=True)
class ToolResults:
    """All results of a batch, in the order of its calls."""

    tag: ClassVar[str] = "tool_results"
    id: int
    results: tuple[CompletedToolCall, ...]


@frozen(kw_only=True)
class ExecDone:
    """The code ran; a string says why it could not."""

    tag: ClassVar[str] = "exec_done"
    id: int
    result: ExecResponse | str


@frozen(kw_only=True)
class CheckpointDone:
    """What the checkpoint adds."""

    tag: ClassVar[str] = "checkpoint_done"
    id: int
    delivery: CheckpointDelivery


Response = Union[EnvironmentSynced, LlmComplete, ToolResults, ExecDone, CheckpointDone]


# ---- steps: what a driver answers -----------------------------------------------------------------------------------


@frozen
class StartLlm:
    """Ask the model next. `driver_state` is plain data that comes back with the answer."""

    tag: ClassVar[str] = "start_llm"
    request: LlmRequest
    driver_state: Any = None


@frozen
class StartTools:
    """Run tools next. The machine answers each `InvalidToolCall` itself; the others become one effect."""

    tag: ClassVar[str] = "start_tools"
    calls: tuple[PendingToolCall | InvalidToolCall, ...]


@frozen(kw_only=True)
class StartExec:
    """Run code next."""

    tag: ClassVar[str] = "start_exec"
    language: str
    code: str
    driver_state: Any = None


@frozen
class PrepareIteration:
    """Ask the driver again what this iteration should do."""

    tag: ClassVar[str] = "prepare_iteration"


CheckpointResumeAction = Union[PrepareIteration, Finished, Stopped, Handoff]


@frozen(kw_only=True)
class StartCheckpoint:
    """Let plugins speak next; if none adds anything, do `on_empty`."""

    tag: ClassVar[str] = "start_checkpoint"
    kind: CheckpointKind
    on_empty: CheckpointResumeAction


Continuation = Union[StartLlm, StartTools, StartExec, StartCheckpoint, PrepareIteration, Finished, Stopped, Handoff]


@frozen(kw_only=True)
class Step:
    """What a driver decides: what to show, what to append, and exactly one way on.

    Applied in this order: `emits`, `messages` and `events` appended, `advance` (the iteration counter goes up by one),
    `turn_limit_final` (appended once, only if the limit is reached), then `next`.
    """

    next: Continuation
    emits: tuple[SessionEvent, ...] = ()
    messages: tuple[Message, ...] = ()
    events: tuple[ProtocolEvent, ...] = ()
    advance: bool = False
    turn_limit_final: Message | None = None


class DriverContextView(Protocol):
    """What a driver may read of the turn."""

    @property
    def turn_id(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def protocol_iteration(self) -> int: ...
    @property
    def protocol_run_offset(self) -> int: ...
    @property
    def max_turns(self) -> int | None: ...
    @property
    def autonomous(self) -> bool: ...
    @property
    def messages(self) -> Sequence[Message]: ...
    @property
    def turn_messages(self) -> Sequence[Message]:
        """What this turn appended so far, its input included."""
        ...

    @property
    def events(self) -> Sequence[ProtocolEvent]: ...
    @property
    def turn_causes(self) -> Sequence[TurnCause]: ...
    @property
    def should_force_exit_after_grace_turn(self) -> bool: ...
    @property
    def turn_limit_final_to_schedule(self) -> int | None:
        """The limit, if it is reached and its last message is not yet scheduled."""
        ...

    @property
    def options(self) -> Any:
        """The mode's options, and the turn's `ModeTurnOptions` over them."""
        ...

    @property
    def turn_extension(self) -> Any:
        """The turn's `ModeTurnExtension`, of a class that the mode's driver declared; None without one."""
        ...

    @property
    def session_extension(self) -> Any:
        """The session's `ModeSessionExtension`; None without one."""
        ...

    def project_llm_request(self, use_tools: bool = True) -> LlmRequest:
        """The request that shows the conversation as it stands to the model."""
        ...


class ProtocolDriver(Protocol):
    """How a mode talks with a model. Pure: it answers from its arguments alone, and keeps nothing between calls."""

    def prepare_protocol_iteration(self, ctx: DriverContextView) -> Step:
        """What this iteration does first."""
        ...

    def handle_llm_success(
        self, ctx: DriverContextView, response: LlmResponse, text_streamed: bool, driver_state: Any
    ) -> Step:
        """What to do with the model's answer."""
        ...

    def handle_tool_results(self, ctx: DriverContextView, completed: Sequence[CompletedToolCall]) -> Step:
        """What to do with the tools' results, given in the order of the calls."""
        ...

    def handle_exec_result(self, ctx: DriverContextView, result: ExecResponse | str, driver_state: Any) -> Step:
        """What to do with what the code did."""
        ...


# ---- snapshot -------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Waiting:
    """An effect is out and its response owed. `on_empty` belongs to checkpoints, `driver_state` to calls and code."""

    effect: WaitingEffect
    driver_state: Any = None
    on_empty: CheckpointResumeAction | None = None
    rejected: tuple[tuple[int, CompletedToolCall], ...] = ()


@frozen(kw_only=True)
class MachineSnapshot:
    """A turn machine at rest: plain data. The configuration is not part of it; the host rebuilds that."""

    state: str
    waiting: Waiting | None
    pending: tuple[Effect, ...]
    next_effect_id: int
    messages_added: tuple[Message, ...]
    base_message_count: int
    events: tuple[ProtocolEvent, ...]
    turn_causes: tuple[TurnCause, ...]
    reported_messages: int
    reported_events: int
    protocol_iteration: int
    protocol_run_offset: int
    usage: TokenUsage
    turn_limit_scheduled: bool = False
    synced_iteration: int | None = None
    checkpoint_count: int = 0
    system_prompt: str | None = None
    tool_specs: tuple[LlmToolSpec, ...] | None = None
    outcome: TurnOutcome | None = None
