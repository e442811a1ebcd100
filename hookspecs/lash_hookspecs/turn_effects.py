"""What the turn machine wants done, and what came of it: effects and their responses."""

from __future__ import annotations

from typing import Any, ClassVar, Union

from lash_hookspecs.checkpoints import CheckpointDelivery, CheckpointKind
from lash_hookspecs.llm import LlmCallError, LlmRequest, LlmResponse, LlmToolSpec
from lash_hookspecs.messages import Message
from lash_hookspecs.tools import CompletedToolCall, ExecResponse, PendingToolCall
from lash_hookspecs.turn_events import LlmErrorLog, SessionEvent
from lash_hookspecs.turn_interventions import TurnIntervention
from lash_hookspecs.turn_outcomes import TurnOutcome
from lash_hookspecs.values import frozen

__all__ = [
    "Checkpoint",
    "CheckpointDone",
    "Done",
    "Effect",
    "Emit",
    "EnvironmentSynced",
    "ExecCode",
    "ExecDone",
    "ExecutionEnvironmentSync",
    "LlmCall",
    "LlmComplete",
    "Log",
    "Progress",
    "ProtocolEvent",
    "Response",
    "SyncExecutionEnvironment",
    "ToolCalls",
    "ToolResults",
]


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
    """Ask the model. `did`: whose drivers made something of the request."""

    tag: ClassVar[str] = "llm_call"
    id: int
    request: LlmRequest
    did: tuple[TurnIntervention, ...] = ()


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
    event: LlmErrorLog


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
    """The model answered or failed. `text_streamed`: whoever watches has the text already."""

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
