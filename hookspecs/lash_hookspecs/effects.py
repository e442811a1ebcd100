"""The effect boundary: everything that isn't deterministic crosses it in an envelope.

The envelope names who asks (`RuntimeInvocation`) and for what (`RuntimeEffectCommand`); a controller runs it, or
answers from a record. A domain failure (a model refused, a tool failed) is inside the outcome; an
`EffectControllerError` means that the boundary itself failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar, Union

from attrs import field

from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.checkpoints import CheckpointDelivery, CheckpointKind
from lash_hookspecs.errors import EffectControllerError
from lash_hookspecs.llm import LlmCallError, LlmRequest, LlmResponse
from lash_hookspecs.messages import CausalRef, CausedByEffect
from lash_hookspecs.tools import CompletedToolCall, ExecResponse, PreparedToolCall
from lash_hookspecs.turns import ExecutionEnvironmentSync
from lash_hookspecs.values import frozen

__all__ = [
    "CheckpointCommand",
    "CheckpointOutcome",
    "DirectCommand",
    "DirectOutcome",
    "EffectController",
    "EffectHost",
    "EffectRunner",
    "EffectSubject",
    "ExecCodeCommand",
    "ExecCodeOutcome",
    "LlmCallCommand",
    "LlmCallOutcome",
    "RuntimeEffectCommand",
    "RuntimeEffectEnvelope",
    "RuntimeEffectKind",
    "RuntimeEffectOutcome",
    "RuntimeInvocation",
    "RuntimeReplay",
    "RuntimeScope",
    "RuntimeSubject",
    "SleepCommand",
    "SleepOutcome",
    "SyncEnvironmentCommand",
    "SyncEnvironmentOutcome",
    "ToolCallCommand",
    "ToolCallDone",
    "ToolCallEffectOutcome",
    "child_key",
    "effect_key",
    "expect",
]


class RuntimeEffectKind(StrEnum):
    """What kinds of effect there are."""

    LLM_CALL = "llm_call"
    DIRECT = "direct"
    TOOL_CALL = "tool_call"
    PROCESS = "process"
    EXEC_CODE = "exec_code"
    CHECKPOINT = "checkpoint"
    SYNC_EXECUTION_ENVIRONMENT = "sync_execution_environment"
    SLEEP = "sleep"
    AWAIT_EVENT = "await_event"


# ---- who asks -------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class RuntimeScope:
    """Where: a session, and within it a turn and an iteration."""

    session_id: str
    turn_id: str | None = None
    turn_index: int | None = None
    protocol_iteration: int | None = None


@frozen(kw_only=True)
class EffectSubject:
    """The one subject that an envelope may have: an effect, by an id that is unique in its scope."""

    tag: ClassVar[str] = "effect"
    effect_id: str
    kind: RuntimeEffectKind


RuntimeSubject = EffectSubject


@frozen
class RuntimeReplay:
    """The key under which a record of this effect is found again."""

    key: str


@frozen(kw_only=True)
class RuntimeInvocation:
    """Who asks: scope, subject, cause, replay key."""

    scope: RuntimeScope
    subject: RuntimeSubject
    caused_by: CausalRef | None = None
    replay: RuntimeReplay | None = None

    def causal_ref(self) -> CausalRef:
        """The reference that effects caused by this one carry."""
        return CausedByEffect(
            session_id=self.scope.session_id, turn_id=self.scope.turn_id, effect_id=self.subject.effect_id
        )


def effect_key(scope: RuntimeScope, kind: RuntimeEffectKind, effect_id: str) -> str:
    """The replay key of a turn's effect: a hash, so that no id can be built to collide with another."""
    where = [scope.session_id, scope.turn_id, scope.turn_index, scope.protocol_iteration, kind.value, effect_id]
    return stable_hash("lash.effect-key", where)


def child_key(parent: str, plugin_id: str, key: str | int) -> str:
    """The replay key of an effect within an effect: parent, plugin, and an explicit key or that plugin's ordinal."""
    return stable_hash("lash.effect-child-key", [parent, plugin_id, key])


# ---- commands -------------------------------------------------------------------------------------------------------


@frozen
class LlmCallCommand:
    """Ask the turn's model."""

    tag: ClassVar[str] = "llm_call"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.LLM_CALL
    provider_id: str
    request: LlmRequest


@frozen
class DirectCommand:
    """Ask a model outside the turn's conversation; its usage counts under `usage_source`."""

    tag: ClassVar[str] = "direct"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.DIRECT
    provider_id: str
    request: LlmRequest
    usage_source: str


@frozen
class ToolCallCommand:
    """Run a tool."""

    tag: ClassVar[str] = "tool_call"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.TOOL_CALL
    call: PreparedToolCall


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


RuntimeEffectCommand = Union[
    LlmCallCommand,
    DirectCommand,
    ToolCallCommand,
    ExecCodeCommand,
    CheckpointCommand,
    SyncEnvironmentCommand,
    SleepCommand,
]


# ---- outcomes -------------------------------------------------------------------------------------------------------


@frozen
class LlmCallOutcome:
    """The answer, or why there is none. `text_streamed`: watchers saw the text while it came."""

    tag: ClassVar[str] = "llm_call"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.LLM_CALL
    result: LlmResponse | LlmCallError
    text_streamed: bool = False


@frozen
class DirectOutcome:
    """The answer, or why there is none."""

    tag: ClassVar[str] = "direct"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.DIRECT
    result: LlmResponse | LlmCallError


@frozen
class ToolCallDone:
    """The call ended."""

    tag: ClassVar[str] = "done"
    result: CompletedToolCall


@frozen
class ToolCallEffectOutcome:
    """How the call was launched. (A launch that waits for somebody comes with durable waits.)"""

    tag: ClassVar[str] = "tool_call"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.TOOL_CALL
    launch: ToolCallDone


@frozen
class ExecCodeOutcome:
    """What the code did; text says why it could not run."""

    tag: ClassVar[str] = "exec_code"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.EXEC_CODE
    result: ExecResponse | str


@frozen
class CheckpointOutcome:
    """What the checkpoint adds."""

    tag: ClassVar[str] = "checkpoint"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.CHECKPOINT
    delivery: CheckpointDelivery


@frozen
class SyncEnvironmentOutcome:
    """The refreshed environment, nothing if it needn't change, or why it failed."""

    tag: ClassVar[str] = "sync_execution_environment"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.SYNC_EXECUTION_ENVIRONMENT
    update: ExecutionEnvironmentSync | None = None
    error: str | None = None


@frozen
class SleepOutcome:
    """The time is over."""

    tag: ClassVar[str] = "sleep"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.SLEEP


RuntimeEffectOutcome = Union[
    LlmCallOutcome,
    DirectOutcome,
    ToolCallEffectOutcome,
    ExecCodeOutcome,
    CheckpointOutcome,
    SyncEnvironmentOutcome,
    SleepOutcome,
]

O = TypeVar("O")  # noqa: E741  # the conventional name for an outcome's type here


def expect(outcome: RuntimeEffectOutcome, kind: type[O]) -> O:
    """The outcome as the kind that was asked for. Raises `runtime_effect_wrong_outcome` naming both kinds."""
    if isinstance(outcome, kind):
        return outcome
    wanted: Any = kind
    # A controller is foreign code: what it returned may be anything.
    given = getattr(outcome, "kind", type(outcome).__name__)
    raise EffectControllerError(
        "runtime_effect_wrong_outcome", f"expected outcome `{wanted.kind}`, the controller returned `{given}`"
    )


# ---- the envelope ---------------------------------------------------------------------------------------------------


@frozen
class RuntimeEffectEnvelope:
    """A checked question to the effect boundary.

    Raises `EffectControllerError` with code `runtime_effect_invocation_subject` (blank id),
    `runtime_effect_invocation_kind` (the subject names another kind than the command's) or
    `runtime_effect_replay_required` (no replay key).
    """

    invocation: RuntimeInvocation
    command: RuntimeEffectCommand = field()

    def __attrs_post_init__(self) -> None:
        subject = self.invocation.subject
        if not subject.effect_id.strip():
            raise EffectControllerError("runtime_effect_invocation_subject", "the effect id is blank")
        if subject.kind is not self.command.kind:
            raise EffectControllerError(
                "runtime_effect_invocation_kind",
                f"the subject says `{subject.kind}`, the command is `{self.command.kind}`",
            )
        if self.invocation.replay is None or not self.invocation.replay.key:
            raise EffectControllerError("runtime_effect_replay_required", "the invocation has no replay key")

    @property
    def key(self) -> str:
        """The replay key."""
        assert self.invocation.replay is not None  # checked at construction
        return self.invocation.replay.key


EffectRunner = Callable[[RuntimeEffectEnvelope], Awaitable[RuntimeEffectOutcome]]
"""Executes an envelope for real. Holds what can't be stored: streams, live tools, cancel scopes."""


class EffectController(Protocol):
    """One scope's way through the effect boundary."""

    @property
    def durable(self) -> bool:
        """Whether what it ran so far would survive the death of the process."""
        ...

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        """Run the envelope, or answer from a record of it."""
        ...


class EffectHost(Protocol):
    """Makes controllers, one a scope."""

    def scoped(self, scope: RuntimeScope) -> EffectController:
        """The controller of a turn or another unit of work."""
        ...
