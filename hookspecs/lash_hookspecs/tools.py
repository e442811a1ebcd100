"""Tools: what a model may call, what a call returns, and the `@tool` decorator's contract.

A tool's full result (`ToolCallOutput`) is for hosts; what the model sees of it (`ModelToolReturn`) is a separate value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Union

from attrs import field

from lash_hookspecs.handoffs import HandoffSession
from lash_hookspecs.hook_services import Provide, ToolServiceUser
from lash_hookspecs.messages import AttachmentRef, ProviderReplayMeta
from lash_hookspecs.read_only_data import read_only, read_only_table, read_only_table_or_none
from lash_hookspecs.tool_declarations import OutputEnd, RetryNever, ToolRetry, ToolRetryNever, ToolRetryPolicy
from lash_hookspecs.tool_interventions import ToolIntervention
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_hookspecs.models import ModelCapability

__all__ = [
    "AttachmentPart",
    "CompletedToolCall",
    "ExecResponse",
    "FailControl",
    "FinishControl",
    "InvalidToolCall",
    "ModelToolReturn",
    "ModelToolReturnPart",
    "OnUnknown",
    "PendingToolCall",
    "PreparedToolCall",
    "TextPart",
    "Tool",
    "ToolActivation",
    "ToolCallCancelled",
    "ToolCallContext",
    "ToolCallFailure",
    "ToolCallOutcome",
    "ToolCallOutput",
    "ToolCallRecord",
    "ToolCallSuccess",
    "ToolControl",
    "ToolEffect",
    "ToolError",
    "ToolFailureClass",
    "ToolFailureSource",
    "ToolManifest",
]


class ToolActivation(StrEnum):
    """`ALWAYS`: the model may call it. `INTERNAL`: only the runtime and other tools may.

    `DEFERRED`: the model isn't told of it before it has found it with `search_tools`; then it may, in that session.
    """

    ALWAYS = "always"
    INTERNAL = "internal"
    DEFERRED = "deferred"


class ToolEffect(StrEnum):
    """What a second execution of the same call would do to the world.

    `PURE`: nothing. `IDEMPOTENT`: nothing more, given the same key. `UNSAFE` (the default): possibly something twice.
    """

    PURE = "pure"
    IDEMPOTENT = "idempotent"
    UNSAFE = "unsafe"


class OnUnknown(StrEnum):
    """What becomes of an unsafe call when a process died after it was to start, and nobody knows whether it happened.

    `FAIL` (the default): the model is told so, as a failure with code `unknown_after_crash`. `WAIT`: a person decides.
    """

    FAIL = "fail"
    WAIT = "wait"


@frozen(kw_only=True)
class ToolManifest:
    """What is known of a tool without running it. The schemas are JSON Schema objects; `timeout_s` in seconds.

    `retry` says when a failed call is made again; `max_concurrency`, how many calls run at once in a host (None: any
    number); `may_defer`, that a call may put off its end with `ctx.defer`. Declared for whoever acts on it: `keeps`,
    the end of a long output that is worth keeping; `attaches`, whether results may have attachments.
    """

    name: str
    description: str = ""
    input_schema: Mapping[str, Any] = field(
        factory=lambda: {"type": "object", "properties": {}}, converter=read_only_table
    )
    output_schema: Mapping[str, Any] | None = field(default=None, converter=read_only_table_or_none)
    activation: ToolActivation = ToolActivation.ALWAYS
    effect: ToolEffect = ToolEffect.UNSAFE
    on_unknown: OnUnknown = OnUnknown.FAIL
    timeout_s: float | None = None
    retry: ToolRetryPolicy = RetryNever()
    max_concurrency: int | None = None
    keeps: OutputEnd = OutputEnd.HEAD
    attaches: bool = False
    may_defer: bool = False


@frozen(kw_only=True)
class ToolCallContext(ToolServiceUser):
    """What a running tool may know of its call. `state` is its plugin's session state, to read.

    `call_tool(index, name, args)` runs another tool of the session as a child of this call and returns its completed
    call; a child's id is `<call id>:<two-digit index>`. With `as_model=True` it is held to what the model may call,
    which internal tools are not. Children have children, to a depth. `find_tools(query, limit)` searches deferred ones.
    `defer(timeout_s=None)` puts off the call's end: its key is what somebody completes the call with
    (`lash pending resolve`), after the tool has returned. `model` is what the turn's model can do, such as be shown
    images. Two tell whoever watches something in the call's row while it runs, and nothing of it is recorded:
    `progress(text, done=None)` says in words how far it has come, `done` from 0 to 1 (a `ToolCallProgress`);
    `show(name, payload)` shows plain JSON data of the plugin's own, such as output (a `PluginSurface`).
    """

    session_id: str
    turn_id: str
    call_id: str
    tool_name: str
    plugin_id: str
    idempotency_key: str
    host: Any = None
    options: Any = None
    state: Any = None
    call_tool: Callable[..., Awaitable[CompletedToolCall]] | None = None
    find_tools: Callable[[str, int], Sequence[ToolManifest]] | None = None
    defer: Callable[..., str] | None = None
    progress: Callable[..., Awaitable[None]] | None = None
    show: Callable[..., Awaitable[None]] | None = None
    model: ModelCapability | None = None
    services: Provide | None = None


class Tool(Protocol):
    """Something callable by a model. `@tool` makes one of a typed function.

    One that a cancel doesn't stop, since it runs in a thread, has an attribute `is_async` that is False: results of
    calls that were stopped say so. One that may be out of reach also has an attribute `unavailable`: why it can't be
    called now, or None. It is looked at whenever the model is told of its tools, so it must be cheap. One whose calls
    are hard to read has `async def preview(args)`: what a person reads who is asked about a call, beside its arguments,
    such as a diff; None for nothing. It changes nothing, and is called once, before the question is recorded.
    """

    @property
    def manifest(self) -> ToolManifest:
        """What is known of it without running it."""
        ...

    async def call(self, ctx: ToolCallContext, args: Mapping[str, Any]) -> object:
        """Run it. `args` fit the input schema.

        Returns a `ToolCallOutput`, or any JSON-encodable value, which counts as success. Raises `ToolError` for a
        failure that the model should read as such; every other exception becomes an `internal` failure.
        """
        ...


# ---- outcomes -------------------------------------------------------------------------------------------------------


class ToolFailureClass(StrEnum):
    """What kind of failure it was."""

    INVALID_REQUEST = "invalid_request"
    IO = "io"
    UNAVAILABLE = "unavailable"
    PERMISSION_DENIED = "permission_denied"
    TIMEOUT = "timeout"
    EXECUTION = "execution"
    EXTERNAL = "external"
    RESOURCE_LIMIT = "resource_limit"
    INTERNAL = "internal"


class ToolFailureSource(StrEnum):
    """Who said no."""

    RUNTIME = "runtime"
    TOOL = "tool"
    PLUGIN = "plugin"
    POLICY = "policy"
    CANCELLATION = "cancellation"


@frozen
class ToolCallSuccess:
    """It worked; `value` is plain JSON data."""

    tag: ClassVar[str] = "success"
    value: Any = field(default=None, converter=read_only)
    attachments: tuple[AttachmentRef, ...] = ()


@frozen(kw_only=True)
class ToolCallFailure:
    """It failed. The model reads `message`; hosts also `code` and `raw`."""

    tag: ClassVar[str] = "failure"
    failure_class: ToolFailureClass
    code: str
    message: str
    source: ToolFailureSource = ToolFailureSource.TOOL
    retry: ToolRetry = ToolRetryNever()
    raw: Any = field(default=None, converter=read_only)
    attachments: tuple[AttachmentRef, ...] = ()


@frozen(kw_only=True)
class ToolCallCancelled:
    """It was stopped before it could finish."""

    tag: ClassVar[str] = "cancelled"
    message: str
    source: ToolFailureSource = ToolFailureSource.CANCELLATION
    raw: Any = field(default=None, converter=read_only)


ToolCallOutcome = Union[ToolCallSuccess, ToolCallFailure, ToolCallCancelled]


@frozen
class FinishControl:
    """End the turn with this value (honoured on success only)."""

    tag: ClassVar[str] = "finish"
    value: Any = field(default=None, converter=read_only)


@frozen
class FailControl:
    """End the turn as failed with this value (honoured on success of the call only)."""

    tag: ClassVar[str] = "fail"
    value: Any = field(default=None, converter=read_only)


ToolControl = Union[FinishControl, FailControl, HandoffSession]


@frozen
class ToolCallOutput:
    """What a call returned, whole, and what it asks of the turn.

    `reveals` names deferred tools that the model may call from now on in this session.
    """

    outcome: ToolCallOutcome
    control: ToolControl | None = None
    reveals: tuple[str, ...] = ()

    @property
    def is_success(self) -> bool:
        """Whether it worked."""
        return isinstance(self.outcome, ToolCallSuccess)


class ToolError(Exception):
    """Raise it in a tool to tell the model what went wrong. `code` is stable, for programs.

    `retry=ToolRetrySafe()` says that the same call may be made again, as far as the tool's policy lets it.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "tool_error",
        failure_class: ToolFailureClass = ToolFailureClass.EXECUTION,
        retry: ToolRetry = ToolRetryNever(),
    ) -> None:
        self.code = code
        self.failure_class = failure_class
        self.retry = retry
        super().__init__(message)


@frozen
class TextPart:
    """Text for the model."""

    tag: ClassVar[str] = "text"
    text: str


@frozen
class AttachmentPart:
    """An attachment for the model."""

    tag: ClassVar[str] = "attachment"
    reference: AttachmentRef


ModelToolReturnPart = Union[TextPart, AttachmentPart]


@frozen
class ModelToolReturn:
    """What the model sees of a result, in this order."""

    call_id: str
    tool_name: str
    parts: tuple[ModelToolReturnPart, ...] = ()


# ---- calls ----------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class PendingToolCall:
    """A call that the model made. `replay` is opaque provider state for the next request."""

    call_id: str
    tool_name: str
    args: Mapping[str, Any] = field(converter=read_only_table)
    replay: ProviderReplayMeta | None = None


@frozen(kw_only=True)
class InvalidToolCall:
    """A call whose arguments are no JSON object; it is answered with an `invalid_request` failure, never run."""

    call_id: str
    tool_name: str
    input_json: str
    replay: ProviderReplayMeta | None = None


@frozen(kw_only=True)
class PreparedToolCall:
    """A call as it crosses the effect boundary: final arguments, the owner of the tool, and what repeating it does.

    `on_unknown` is the tool's policy of now; it is no part of what is asked.
    """

    call_id: str
    tool_name: str
    args: Mapping[str, Any]
    plugin_id: str
    effect: ToolEffect = ToolEffect.UNSAFE
    on_unknown: OnUnknown = OnUnknown.FAIL
    replay: ProviderReplayMeta | None = None


@frozen(kw_only=True)
class CompletedToolCall:
    """A call with its result. `duration_ms` in whole milliseconds, from the record of the call.

    `children` are the calls that the tool made meanwhile, in the order of their indexes; no model is shown them.
    `interventions` say which plugins denied or changed it.
    """

    call_id: str
    tool_name: str
    args: Mapping[str, Any] = field(converter=read_only_table)
    output: ToolCallOutput
    model_return: ModelToolReturn
    duration_ms: int = 0
    replay: ProviderReplayMeta | None = None
    children: tuple[CompletedToolCall, ...] = ()
    interventions: tuple[ToolIntervention, ...] = ()


@frozen(kw_only=True)
class ToolCallRecord:
    """A call as the assembled turn reports it. `plugin_id` names the owner of the tool.

    `parent_call_id` names the call whose tool made this one; None if it was the model.
    """

    call_id: str
    tool_name: str
    args: Mapping[str, Any]
    output: ToolCallOutput
    duration_ms: int = 0
    plugin_id: str | None = None
    parent_call_id: str | None = None
    interventions: tuple[ToolIntervention, ...] = ()


@frozen(kw_only=True)
class ExecResponse:
    """What a block of code did. Code modes use it."""

    observations: tuple[str, ...] = ()
    error: str | None = None
    duration_ms: int = 0
    terminal_finish: Any = None
