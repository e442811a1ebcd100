"""What may be asked of the effect boundary: kinds, and a command for each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, Union

from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.llm import LlmRequest, TokenUsage
from lash_hookspecs.processes import ProcessOperation
from lash_hookspecs.tools import PreparedToolCall
from lash_hookspecs.values import frozen
from lash_hookspecs.waits import WaitKey

__all__ = [
    "AssistantResponseCommand",
    "AwaitEventCommand",
    "CheckpointCommand",
    "CompactCommand",
    "DirectCommand",
    "ExecCodeCommand",
    "LlmCallCommand",
    "ProcessCommand",
    "RuntimeEffectCommand",
    "RuntimeEffectKind",
    "SleepCommand",
    "SyncEnvironmentCommand",
    "ToolCallCommand",
    "ToolHooksCommand",
    "ToolSeam",
    "TurnEndCommand",
    "TurnStartCommand",
]


class RuntimeEffectKind(StrEnum):
    """What kinds of effect there are."""

    TURN_START = "turn_start"
    TURN_END = "turn_end"
    LLM_CALL = "llm_call"
    ASSISTANT_RESPONSE = "assistant_response"
    DIRECT = "direct"
    TOOL_CALL = "tool_call"
    TOOL_HOOKS = "tool_hooks"
    PROCESS = "process"
    EXEC_CODE = "exec_code"
    CHECKPOINT = "checkpoint"
    COMPACT = "compact"
    SYNC_EXECUTION_ENVIRONMENT = "sync_execution_environment"
    SLEEP = "sleep"
    AWAIT_EVENT = "await_event"


@frozen
class TurnStartCommand:
    """Begin the turn: ask the plugins for what comes before the first model call. The hash is the input's."""

    tag: ClassVar[str] = "turn_start"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.TURN_START
    input_hash: str


@frozen
class TurnEndCommand:
    """End the turn: show the plugins what it was, and say when it was over."""

    tag: ClassVar[str] = "turn_end"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.TURN_END


@frozen
class LlmCallCommand:
    """Ask the turn's model."""

    tag: ClassVar[str] = "llm_call"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.LLM_CALL
    provider_id: str
    request: LlmRequest


@frozen
class AssistantResponseCommand:
    """Let the plugins rewrite the reply of a model call, of which this is a child."""

    tag: ClassVar[str] = "assistant_response"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.ASSISTANT_RESPONSE


@frozen
class DirectCommand:
    """Ask a model outside the turn's conversation; its usage counts under `usage_source`.

    Without messages nobody is asked: it says what a turn on another session has cost; others had paid `before` of it.
    """

    tag: ClassVar[str] = "direct"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.DIRECT
    provider_id: str
    request: LlmRequest
    usage_source: str
    before: TokenUsage | None = None


@frozen
class ToolCallCommand:
    """Run a tool."""

    tag: ClassVar[str] = "tool_call"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.TOOL_CALL
    call: PreparedToolCall


class ToolSeam(StrEnum):
    """Where a tool call's hooks are called."""

    BEFORE = "before"
    ANSWERED = "answered"
    AFTER = "after"


@frozen(kw_only=True)
class ToolHooksCommand:
    """Ask the plugins about a tool call: before its tool runs, once a person answered, or after it.

    `args` are those that it has by then.
    """

    tag: ClassVar[str] = "tool_hooks"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.TOOL_HOOKS
    seam: ToolSeam
    call_id: str
    tool_name: str
    args: Mapping[str, Any]


@frozen
class ProcessCommand:
    """Ask something of a process. `process_effect_id` makes its effect id."""

    tag: ClassVar[str] = "process"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.PROCESS
    operation: ProcessOperation


@frozen
class ExecCodeCommand:
    """Run code."""

    tag: ClassVar[str] = "exec_code"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.EXEC_CODE
    language: str
    code: str


@frozen
class CheckpointCommand:
    """Run the plugins' checkpoint hooks."""

    tag: ClassVar[str] = "checkpoint"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.CHECKPOINT
    checkpoint: CheckpointKind


@frozen
class CompactCommand:
    """Let a plugin make room in the model's context window: the call before this one didn't fit."""

    tag: ClassVar[str] = "compact"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.COMPACT


@frozen
class SyncEnvironmentCommand:
    """Bring prompt and tools up to date."""

    tag: ClassVar[str] = "sync_execution_environment"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.SYNC_EXECUTION_ENVIRONMENT
    update_machine_config: bool


@frozen
class SleepCommand:
    """Wait, in milliseconds."""

    tag: ClassVar[str] = "sleep"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.SLEEP
    duration_ms: int


@frozen
class AwaitEventCommand:
    """Wait until somebody settles a promise. `wait_id` makes its effect id."""

    tag: ClassVar[str] = "await_event"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.AWAIT_EVENT
    key: WaitKey


RuntimeEffectCommand = Union[
    TurnStartCommand,
    TurnEndCommand,
    LlmCallCommand,
    AssistantResponseCommand,
    DirectCommand,
    ToolCallCommand,
    ToolHooksCommand,
    ProcessCommand,
    ExecCodeCommand,
    CheckpointCommand,
    CompactCommand,
    SyncEnvironmentCommand,
    SleepCommand,
    AwaitEventCommand,
]
