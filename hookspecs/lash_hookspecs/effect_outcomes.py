"""What came of an effect: an outcome for each command, and in it the record of the hooks that ran within.

An outcome is plain data and whole: whoever replays it gets from it everything that the live execution brought about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, Union

from attrs import field

from lash_hookspecs.compaction import Compaction
from lash_hookspecs.connected_tools import ToolSetRecord
from lash_hookspecs.context_views import ContextView
from lash_hookspecs.directives import OwnedDirective
from lash_hookspecs.effect_commands import RuntimeEffectKind
from lash_hookspecs.errors import EffectControllerError
from lash_hookspecs.llm import LlmCallError, LlmResponse, LlmToolSpec, TokenUsage
from lash_hookspecs.messages import Message
from lash_hookspecs.processes import ProcessRefused, ProcessResult
from lash_hookspecs.prompts import RenderedPrompt
from lash_hookspecs.questions import PersonQuestion
from lash_hookspecs.read_only_data import read_only_table
from lash_hookspecs.sessions import SessionPolicy
from lash_hookspecs.tool_interventions import ToolIntervention
from lash_hookspecs.tools import CompletedToolCall, ExecResponse, ModelToolReturnPart, ToolCallOutput
from lash_hookspecs.turn_interventions import TurnIntervention
from lash_hookspecs.turn_outcomes import OverBudget, StopReason
from lash_hookspecs.values import frozen
from lash_hookspecs.waits import Resolution

__all__ = [
    "AssistantResponseOutcome",
    "AwaitEventOutcome",
    "CheckpointOutcome",
    "CompactOutcome",
    "DirectOutcome",
    "ExecCodeOutcome",
    "HookFailure",
    "HookRecord",
    "LlmCallOutcome",
    "ProcessOutcome",
    "RetryLater",
    "RuntimeEffectOutcome",
    "SleepOutcome",
    "SyncEnvironmentOutcome",
    "ToolCallDone",
    "ToolCallEffectOutcome",
    "ToolCallPending",
    "ToolHooksOutcome",
    "TurnEndOutcome",
    "TurnStartOutcome",
    "TurnStop",
    "expect",
    "expect_process",
]


@frozen(kw_only=True)
class HookFailure:
    """The hook that raised, or returned nonsense. `message` names all of it, for people."""

    plugin_id: str
    hook: str
    message: str


@frozen(kw_only=True)
class HookRecord:
    """What the hooks within one effect did: all that a replay needs so as to call none of them.

    `directives` are what they returned, by plugin, in order. `states` are the plugin states that they changed, each as
    plain data with its version. After a `failure` nothing else was called. `orders` number the changes of states whose
    records are made, and so may be read, in any order: those around calls that tools make. The last one counts.
    """

    directives: tuple[OwnedDirective, ...] = ()
    states: Mapping[str, Any] = field(factory=dict, converter=read_only_table)
    failure: HookFailure | None = None
    orders: Mapping[str, int] = field(factory=dict, converter=read_only_table)


@frozen(kw_only=True)
class TurnStartOutcome:
    """What the turn runs with; prompt and tools mean nothing if a hook failed. `started_at_ms`: since 1970.

    `compaction` is what the turn's new frame begins with, where it opens one; `context` is what is shown of the
    conversation, where that isn't all of it. `toolsets` are those that connect to something, as they were found.
    """

    tag: ClassVar[str] = "turn_start"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.TURN_START
    started_at_ms: int
    policy: SessionPolicy
    prompt: RenderedPrompt = RenderedPrompt()
    tool_specs: tuple[LlmToolSpec, ...] = ()
    hooks: HookRecord = HookRecord()
    compaction: Compaction | None = None
    context: ContextView | None = None
    toolsets: tuple[ToolSetRecord, ...] = ()


@frozen(kw_only=True)
class TurnStop:
    """Where a turn was stopped from outside (it was cancelled, or abandoned), so that a replay of it ends there too.

    `steps` counts the machine's effects that were answered; None: not even its start has a record. `asking`: a model
    call was under way, and nobody knows what it has cost. `results` are those of the tool calls that were open;
    `message` says why nothing more could be replayed of an abandoned turn. `partial_text` is what is kept of its reply.
    `spent` is what a reply has cost that plugins were still to rewrite.
    """

    reason: StopReason
    steps: int | None = None
    asking: bool = False
    results: tuple[CompletedToolCall, ...] = ()
    message: str | None = None
    partial_text: str = ""
    spent: TokenUsage = TokenUsage()


@frozen(kw_only=True)
class TurnEndOutcome:
    """When the turn was over, and what the hooks at its end did, or where it was stopped instead.

    `finished_at_ms`: since 1970.
    """

    tag: ClassVar[str] = "turn_end"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.TURN_END
    finished_at_ms: int
    hooks: HookRecord = HookRecord()
    stop: TurnStop | None = None


@frozen
class LlmCallOutcome:
    """The answer, or why there is none. `text_streamed`: the text came in pieces, which watchers saw.

    `lost_attachments` are ids whose bytes the store doesn't have; the model read so in their place. `partial_text` is
    what is to be kept of a reply that was cut off, where the host keeps that. `hooks` is what plugins decided before
    the call and did on its stream. `is_raw`: plugins are to rewrite the answer, which has a record of its own.
    `over_budget`: the model wasn't asked, and this is why. `did` is what plugins did to the reply while it came,
    and who stood around the call and changed what came of it.
    """

    tag: ClassVar[str] = "llm_call"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.LLM_CALL
    result: LlmResponse | LlmCallError
    text_streamed: bool = False
    lost_attachments: tuple[str, ...] = ()
    partial_text: str | None = None
    hooks: HookRecord = HookRecord()
    is_raw: bool = False
    over_budget: OverBudget | None = None
    did: tuple[TurnIntervention, ...] = ()


@frozen(kw_only=True)
class AssistantResponseOutcome:
    """What plugins made of a model's answer, and which of them changed it; None: they left it as it was."""

    tag: ClassVar[str] = "assistant_response"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.ASSISTANT_RESPONSE
    response: LlmResponse | None = None
    hooks: HookRecord = HookRecord()
    changed_by: tuple[str, ...] = ()


@frozen
class DirectOutcome:
    """The answer, or why there is none, and whose usage it is, of which model (`provider:name`).

    The intent of such a call holds one, too: what is known of it while it is under way. `before` is the command's.
    `did` is what plugins that stood around the call made of it.
    """

    tag: ClassVar[str] = "direct"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.DIRECT
    result: LlmResponse | LlmCallError
    source: str = ""
    model: str = ""
    before: TokenUsage | None = None
    did: tuple[TurnIntervention, ...] = ()


@frozen
class ToolCallDone:
    """The call ended."""

    tag: ClassVar[str] = "done"
    result: CompletedToolCall


@frozen(kw_only=True)
class ToolCallPending:
    """The call waits for somebody to complete it, under `key`, until `until_ms` (since 1970) if that is given.

    `result` is what its tool returned meanwhile, with the calls that it made.
    """

    tag: ClassVar[str] = "pending"
    key: str
    result: CompletedToolCall
    until_ms: int | None = None


@frozen(kw_only=True)
class RetryLater:
    """The call is to be made again after `delay_ms` milliseconds, which is at `until_ms` (since 1970)."""

    delay_ms: int
    until_ms: int


@frozen
class ToolCallEffectOutcome:
    """How the call was launched: it ended, or it waits for somebody.

    `within` is what the hooks around the calls did that the tool made: whoever replays this doesn't ask for them.
    `again`: it failed, and is to be made once more, whatever its tool's policy is by then.
    """

    tag: ClassVar[str] = "tool_call"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.TOOL_CALL
    launch: ToolCallDone | ToolCallPending
    within: HookRecord = HookRecord()
    again: RetryLater | None = None


@frozen(kw_only=True)
class ToolHooksOutcome:
    """What the hooks around a tool call decided; what is None stays as it was.

    Before the tool: the `args` to call it with, or the `output` of a call that isn't made; neither before a person has
    answered all `questions`. After it: the `output` that counts, and the `view` that the model gets.
    """

    tag: ClassVar[str] = "tool_hooks"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.TOOL_HOOKS
    call_id: str
    args: Mapping[str, Any] | None = None
    output: ToolCallOutput | None = None
    view: tuple[ModelToolReturnPart, ...] | None = None
    interventions: tuple[ToolIntervention, ...] = ()
    hooks: HookRecord = HookRecord()
    questions: tuple[PersonQuestion, ...] = ()


@frozen
class ProcessOutcome:
    """What came of the operation."""

    tag: ClassVar[str] = "process"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.PROCESS
    result: ProcessResult


@frozen
class ExecCodeOutcome:
    """What the code did; text says why it could not run."""

    tag: ClassVar[str] = "exec_code"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.EXEC_CODE
    result: ExecResponse | str


@frozen(kw_only=True)
class CheckpointOutcome:
    """What the plugins' checkpoint hooks did, and what users said meanwhile.

    `taken` are the numbers of the inbox items that the checkpoint delivers, `inputs` what they say: the record and the
    claim of these items are one write.
    """

    tag: ClassVar[str] = "checkpoint"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.CHECKPOINT
    hooks: HookRecord = HookRecord()
    taken: tuple[int, ...] = ()
    inputs: tuple[Message, ...] = ()


@frozen(kw_only=True)
class CompactOutcome:
    """What was compacted; None if no plugin had anything to make room with."""

    tag: ClassVar[str] = "compact"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.COMPACT
    compaction: Compaction | None = None
    hooks: HookRecord = HookRecord()


@frozen(kw_only=True)
class SyncEnvironmentOutcome:
    """Prompt and tools as they are now; they mean nothing if a hook failed.

    `unchanged`: they are those of the outcome before, of the turn's start or a synchronization, and aren't said again.
    """

    tag: ClassVar[str] = "sync_execution_environment"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.SYNC_EXECUTION_ENVIRONMENT
    unchanged: bool = False
    prompt: RenderedPrompt = RenderedPrompt()
    tool_specs: tuple[LlmToolSpec, ...] = ()
    hooks: HookRecord = HookRecord()


@frozen
class SleepOutcome:
    """The time is over."""

    tag: ClassVar[str] = "sleep"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.SLEEP


@frozen
class AwaitEventOutcome:
    """What came of the wait."""

    tag: ClassVar[str] = "await_event"
    kind: ClassVar[RuntimeEffectKind] = RuntimeEffectKind.AWAIT_EVENT
    resolution: Resolution


RuntimeEffectOutcome = Union[
    TurnStartOutcome,
    TurnEndOutcome,
    LlmCallOutcome,
    AssistantResponseOutcome,
    DirectOutcome,
    ToolCallEffectOutcome,
    ToolHooksOutcome,
    ProcessOutcome,
    ExecCodeOutcome,
    CheckpointOutcome,
    CompactOutcome,
    SyncEnvironmentOutcome,
    SleepOutcome,
    AwaitEventOutcome,
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


def expect_process(outcome: RuntimeEffectOutcome, result: type[O]) -> O | ProcessRefused:
    """The result of the operation that was asked for, or its refusal. Raises the same for one of another operation."""
    given: Any = expect(outcome, ProcessOutcome).result
    if isinstance(given, (result, ProcessRefused)):
        return given
    wanted: Any = result
    raise EffectControllerError(
        "runtime_effect_wrong_outcome",
        f"expected a `{wanted.tag}` of a process, the controller returned `{getattr(given, 'tag', given)}`",
    )
