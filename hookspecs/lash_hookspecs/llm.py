"""The provider port: what a model is asked, what it answers, how it fails, and what it streams on the way.

A `Provider` is an object with one working method, `complete`. It may stream while it works; what it returns is the
whole answer again, so that who doesn't listen loses nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Protocol, Union, runtime_checkable

from attrs import field

from lash_hookspecs import _checks as checks
from lash_hookspecs.costs import Cost
from lash_hookspecs.llm_messages import LlmMessage, LlmMessages
from lash_hookspecs.messages import AttachmentRef, ProviderReasoningMeta, ProviderReplayMeta, ResponseTextMeta
from lash_hookspecs.models import ModelCapability
from lash_hookspecs.read_only_data import read_only_table, read_only_table_or_none
from lash_hookspecs.values import frozen

__all__ = [
    "AttemptDecision",
    "AttemptReset",
    "AttemptSeen",
    "FailedAttempt",
    "GenerationOptions",
    "JsonObjectOutput",
    "JsonSchemaOutput",
    "LlmAttachment",
    "LlmCallError",
    "LlmEventSender",
    "LlmOutputPart",
    "LlmOutputSpec",
    "LlmRequest",
    "LlmRequestScope",
    "LlmResponse",
    "LlmStreamEvent",
    "LlmTerminalReason",
    "LlmToolChoice",
    "LlmToolSpec",
    "Provider",
    "ProviderContext",
    "ProviderFailureKind",
    "ProviderSpec",
    "ReasoningOutput",
    "RetryStatus",
    "StreamDelta",
    "StreamReasoningDelta",
    "StreamUsage",
    "TextOutput",
    "TokenUsage",
    "ToolCallOutputPart",
]


def _count() -> Any:
    """Of which none is stored as nothing: a turn's result holds one of these for each call."""
    return field(default=0, metadata={"omit": True})


@frozen(kw_only=True)
class TokenUsage:
    """Tokens of one or several calls, and what they cost. `input` is what was neither read from nor written to a cache.

    `reasoning_output` is a part of `output`. `at_least` says that some call's usage is unknown, so the true figure
    may be higher. Providers count tokens; the runtime adds the money, in millionths of a millionth of a US dollar, so
    that sums are exact. `unpriced`: some of these tokens have no known price; `unpriced_at_most` is what they may
    have cost, for budgets. `service_tier` is what answered, in the service's word, where that isn't charged as usual
    (`flex`, `fast`) and isn't charged yet, or has no known price. `COUNTERS` are the fields that are numbers.
    """

    COUNTERS: ClassVar[tuple[str, ...]] = (
        "input",
        "output",
        "cache_read_input",
        "cache_write_input",
        "reasoning_output",
        "picodollars",
        "unpriced_at_most",
    )

    input: int = _count()
    output: int = _count()
    cache_read_input: int = _count()
    cache_write_input: int = _count()
    reasoning_output: int = _count()
    at_least: bool = False
    picodollars: int = _count()
    unpriced: bool = False
    unpriced_at_most: int = _count()
    service_tier: str | None = None

    @property
    def input_total(self) -> int:
        """All tokens that the model read, cached ones included."""
        return self.input + self.cache_read_input + self.cache_write_input

    @property
    def total(self) -> int:
        """All tokens read and written."""
        return self.input_total + self.output

    @property
    def cost(self) -> Cost:
        """What it cost."""
        return Cost(self.picodollars, self.at_least or self.unpriced)

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            input=self.input + other.input,
            output=self.output + other.output,
            cache_read_input=self.cache_read_input + other.cache_read_input,
            cache_write_input=self.cache_write_input + other.cache_write_input,
            reasoning_output=self.reasoning_output + other.reasoning_output,
            at_least=self.at_least or other.at_least,
            picodollars=self.picodollars + other.picodollars,
            unpriced=self.unpriced or other.unpriced,
            unpriced_at_most=self.unpriced_at_most + other.unpriced_at_most,
            service_tier=_both(self.service_tier, other.service_tier),
        )


def _both(one: str | None, other: str | None) -> str | None:
    if not one and not other:
        return None
    named = {word for each in (one, other) if each for word in each.split("+")}
    return "+".join(sorted(named)) or None


# ---- the request ----------------------------------------------------------------------------------------------------


def _in_runs(messages: Iterable[LlmMessage]) -> LlmMessages:
    return LlmMessages.of(messages)


@frozen(kw_only=True)
class LlmAttachment:
    """An attachment of a request: a reference, and its bytes where the host has loaded them.

    It can't be stored with bytes.
    """

    reference: AttachmentRef
    data: bytes = field(default=b"", repr=False)


@frozen(kw_only=True)
class LlmToolSpec:
    """A tool as the model is told of it. The schemas are JSON Schema objects."""

    name: str
    description: str
    input_schema: Mapping[str, Any] = field(converter=read_only_table)
    output_schema: Mapping[str, Any] | None = field(default=None, converter=read_only_table_or_none)


class LlmToolChoice(StrEnum):
    """Whether the model may, must or must not call tools."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


def _texts(value: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return checks.as_tuple(value)


@frozen(kw_only=True)
class GenerationOptions:
    """Sampling settings; None leaves a setting to the provider. `output_token_cap` is at least 1."""

    output_token_cap: int | None = field(default=None, validator=checks.optional_positive)
    temperature: float | None = field(default=None, validator=checks.optional_finite)
    seed: int | None = field(default=None, validator=checks.optional_whole)
    stop_sequences: tuple[str, ...] = field(default=(), converter=_texts, validator=checks.tuple_of(str))

    def over(self, base: GenerationOptions) -> GenerationOptions:
        """These options, with `base` filling in what they leave open."""
        if self.output_token_cap is self.temperature is self.seed is None and not self.stop_sequences:
            return base  # as nearly always
        return GenerationOptions(
            output_token_cap=base.output_token_cap if self.output_token_cap is None else self.output_token_cap,
            temperature=base.temperature if self.temperature is None else self.temperature,
            seed=base.seed if self.seed is None else self.seed,
            stop_sequences=self.stop_sequences or base.stop_sequences,
        )


@frozen
class JsonObjectOutput:
    """The answer must be some JSON object."""

    tag: ClassVar[str] = "json_object"


@frozen(kw_only=True)
class JsonSchemaOutput:
    """The answer must be JSON that fits `schema`."""

    tag: ClassVar[str] = "json_schema"
    name: str
    schema: Mapping[str, Any] = field(converter=read_only_table)
    strict: bool = True


LlmOutputSpec = Union[JsonObjectOutput, JsonSchemaOutput]


@frozen(kw_only=True)
class LlmRequestScope:
    """Who asks. `request_id` is stable for a given turn and iteration."""

    session_id: str
    agent_frame_id: str
    request_id: str


@frozen(kw_only=True)
class LlmRequest:
    """One question to a model. `model` is the provider's own name for it (without `provider:`).

    `messages` is always an `LlmMessages`, whatever sequence was given.
    """

    model: str
    messages: Sequence[LlmMessage] = field(converter=_in_runs)
    attachments: tuple[LlmAttachment, ...] = ()
    tools: tuple[LlmToolSpec, ...] = ()
    tool_choice: LlmToolChoice = LlmToolChoice.AUTO
    model_variant: str | None = None
    generation: GenerationOptions = GenerationOptions()
    scope: LlmRequestScope | None = None
    output_spec: LlmOutputSpec | None = None


# ---- the answer -----------------------------------------------------------------------------------------------------


class LlmTerminalReason(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    TOOL_USE = "tool_use"
    OUTPUT_LIMIT = "output_limit"
    CONTEXT_OVERFLOW = "context_overflow"
    CONTENT_FILTER = "content_filter"
    PROVIDER_ERROR = "provider_error"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


@frozen(kw_only=True)
class TextOutput:
    """Text that the model wrote."""

    tag: ClassVar[str] = "text"
    text: str
    response_meta: ResponseTextMeta | None = None


@frozen(kw_only=True)
class ReasoningOutput:
    """Reasoning that the model showed, or opaque state of it."""

    tag: ClassVar[str] = "reasoning"
    text: str
    replay: ProviderReasoningMeta | None = None


@frozen(kw_only=True)
class ToolCallOutputPart:
    """A tool call. `input_json` is the raw JSON text of its arguments, exactly as the model wrote it."""

    tag: ClassVar[str] = "tool_call"
    call_id: str
    tool_name: str
    input_json: str
    replay: ProviderReplayMeta | None = None


LlmOutputPart = Union[TextOutput, ReasoningOutput, ToolCallOutputPart]


@frozen(kw_only=True)
class LlmResponse:
    """A whole answer. `full_text` is all its text; `parts` are in the order in which the model produced them."""

    full_text: str = ""
    parts: tuple[LlmOutputPart, ...] = ()
    usage: TokenUsage = TokenUsage()
    terminal_reason: LlmTerminalReason = LlmTerminalReason.UNKNOWN
    terminal_diagnostic: str | None = None
    provider_usage: Mapping[str, Any] | None = None
    request_body: str | None = None
    http_summary: str | None = None
    response_id: str | None = None
    served_model: str | None = None
    failed_attempts: tuple[FailedAttempt, ...] = ()
    """What came before the attempt that was answered."""
    generation_receipt: Mapping[str, str] | None = None
    """What became of options that were asked for, by name: `applied`, `clamped`, `omitted_…`; None: nobody says."""


class ProviderFailureKind(StrEnum):
    """What went wrong with a model call. Unknown names decode as `UNKNOWN`."""

    TRANSPORT = "transport"
    TIMEOUT = "timeout"
    HTTP = "http"
    STREAM = "stream"
    AUTH = "auth"
    VALIDATION = "validation"
    QUOTA = "quota"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"


@frozen(kw_only=True)
class LlmCallError:
    """Why a model call failed. `retryable` tells whether the same request might succeed later.

    `message` is for people: it names the provider and what to do. `raw` is what the service said, redacted. `usage`
    None means that nothing was spent for sure; what can't be known is `TokenUsage(at_least=True)`.
    """

    message: str
    retryable: bool = False
    kind: ProviderFailureKind = ProviderFailureKind.UNKNOWN
    raw: str | None = None
    code: str | None = None
    terminal_reason: LlmTerminalReason = LlmTerminalReason.PROVIDER_ERROR
    request_body: str | None = None
    usage: TokenUsage | None = None
    failed_attempts: tuple[FailedAttempt, ...] = ()
    """All attempts, where there were several."""


class AttemptSeen(StrEnum):
    """How far an attempt had come when it failed; what has been seen may have been charged."""

    NOTHING = "nothing"
    """No byte of a response."""
    EMPTY_STREAM = "empty_stream"
    """A stream that began well, and broke off before any output or usage."""
    RESPONSE = "response"
    """A response: an error status, an error event, usage."""
    OUTPUT = "output"
    """Output of the model, which was streamed, and then taken back."""


class AttemptDecision(StrEnum):
    """What followed from a failed attempt."""

    REPEATED = "repeated"
    COURTESY = "courtesy"
    """Repeated after the wait that the service asked for, which cost no attempt."""
    CREDENTIAL = "credential"
    """Repeated at once, with a credential that had been refreshed."""
    TRIMMED = "trimmed"
    """Repeated at once, without opaque state of earlier answers (reasoning) that the service doesn't take back."""
    REFUSED = "refused"
    """Not repeated, since it may have been charged for."""
    GAVE_UP = "gave_up"
    """Not repeated: it couldn't help, or there were enough attempts."""


@frozen(kw_only=True)
class FailedAttempt:
    """One attempt of a model call that failed. `ordinal` counts from 1; `message` is redacted, and short.

    `usage` as in `LlmCallError`: it is part of the sum in the call's outcome. Times in seconds.
    """

    ordinal: int
    kind: ProviderFailureKind
    code: str | None
    message: str
    seen: AttemptSeen
    decision: AttemptDecision
    lasted: float
    waited: float = 0.0
    status: int | None = None
    usage: TokenUsage | None = None


# ---- the stream -----------------------------------------------------------------------------------------------------


@frozen
class AttemptReset:
    """What was streamed so far belongs to a failed attempt and must be taken back."""

    tag: ClassVar[str] = "attempt_reset"


@frozen
class StreamDelta:
    """More text of the answer."""

    tag: ClassVar[str] = "delta"
    text: str


@frozen
class StreamReasoningDelta:
    """More text of the reasoning."""

    tag: ClassVar[str] = "reasoning_delta"
    text: str


@frozen
class StreamUsage:
    """Usage so far."""

    tag: ClassVar[str] = "usage"
    usage: TokenUsage


@frozen(kw_only=True)
class RetryStatus:
    """A provider, or a tool call, waits before its next attempt. `attempt` counts from 1: the one that just failed."""

    tag: ClassVar[str] = "retry_status"
    wait_seconds: float
    attempt: int
    max_attempts: int
    reason: str


LlmStreamEvent = Union[AttemptReset, StreamDelta, StreamReasoningDelta, StreamUsage, RetryStatus]

LlmEventSender = Callable[[Sequence[LlmStreamEvent]], Awaitable[None]]
"""Takes the events of one network read together; awaiting it is the back-pressure."""


# ---- the port -------------------------------------------------------------------------------------------------------


@runtime_checkable
class Provider(Protocol):
    """A service that answers `LlmRequest`s."""

    def capability(self, model: str) -> ModelCapability:
        """What `model` can do."""
        ...

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        """Ask, stream through `send`, and return the whole answer.

        Raises `LlmCallFailed` for every failure of the service, after whatever retries are safe; cancellation of the
        surrounding scope must abort the network call.
        """
        ...

    async def aclose(self) -> None:
        """Release connections; called once, also after failures."""
        ...


@frozen(kw_only=True)
class ProviderContext:
    """What a provider's factory gets: its settings, already typed and checked.

    `models` is what the user says of models by name (`[models."provider:name"]`), stronger than any table.
    """

    provider_id: str
    settings: Any
    live_calls_allowed: bool = True
    models: Mapping[str, ModelCapability] = field(factory=dict)


@frozen(kw_only=True)
class ProviderSpec:
    """A provider that a plugin offers under `provider_id`, which users type before the colon of a model's name.

    `settings` is a frozen attrs class whose every field has a default, or a function that imports it: a process loads
    the settings of the providers that it uses. A field's `metadata["env"]` may name environment variables that set it,
    `metadata["secret"]` keeps it out of every output. `open` is called once per host, at the first use. `live` says
    that it calls a service which may cost money: tests refuse those unless they opt in. `models` are example names for
    help texts.
    """

    provider_id: str
    settings: type | Callable[[], type]
    open: Callable[[ProviderContext], Provider]
    live: bool = True
    models: tuple[str, ...] = ()
    summary: str = ""

    def settings_class(self) -> type:
        """The class of its settings."""
        return self.settings if isinstance(self.settings, type) else self.settings()
