"""What a service can say, in words of no wire, and the adapter that says it in the bytes of one.

A case scripts an answer as a sequence of steps (`Text("Hel"), Text("lo"), Used(…), Ends(STOP)`); the `Wire` of a
provider turns them into its service's events. So a case is written once, and a wire is about a hundred lines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, Union

from attrs import field

from lash_hookspecs.llm import (
    LlmCallError,
    LlmResponse,
    LlmStreamEvent,
    LlmTerminalReason,
    TokenUsage,
)
from lash_hookspecs.values import frozen

__all__ = [
    "MODEL",
    "RESPONSE_ID",
    "STATUSES",
    "Ability",
    "Call",
    "Decoded",
    "Ends",
    "Fails",
    "Fault",
    "Novelty",
    "ProviderSetup",
    "Reasoning",
    "Refusal",
    "Said",
    "Sealed",
    "Text",
    "Used",
    "Wire",
]

MODEL = "test-model"
"""The model that every request names, and that every scripted answer should say it is from."""

RESPONSE_ID = "resp-test-1"
"""The id that every scripted answer should have, where the wire has one."""


# ---- what a service says, step by step ------------------------------------------------------------------------------


@frozen
class Text:
    """A delta of text."""

    text: str


@frozen
class Reasoning:
    """A delta of shown reasoning."""

    text: str


@frozen
class Sealed:
    """Opaque state that ends the reasoning before it, or stands alone (redacted reasoning): it has to come back."""

    opaque: str


@frozen
class Call:
    """A tool call whose arguments come in `pieces`, joined its JSON text; with `sealed`, opaque state of its own."""

    call_id: str
    name: str
    pieces: tuple[str, ...]
    sealed: str | None = None


@frozen
class Refusal:
    """The model refuses, in a field that the wire has for that."""

    text: str


@frozen
class Used:
    """The service's report of what was used so far. A wire that reports in parts may put some of it earlier."""

    usage: TokenUsage


@frozen
class Ends:
    """Why the model stopped, and all that proves the answer whole. A plain text is a reason that nobody knows."""

    reason: LlmTerminalReason | str


class Fault(StrEnum):
    """What a service complains of, by its own stable code where it has one. `OTHER` has none that anybody knows."""

    AUTH = "auth"
    INVALID = "invalid"
    NO_MODEL = "no_model"
    OVERFLOW = "overflow"
    RATE = "rate"
    QUOTA = "quota"
    """The account has no money left: waiting doesn't help."""
    OVERLOADED = "overloaded"
    SERVER = "server"
    OTHER = "other"


STATUSES: Mapping[Fault, int] = {
    Fault.AUTH: 401,
    Fault.INVALID: 400,
    Fault.NO_MODEL: 404,
    Fault.OVERFLOW: 400,
    Fault.RATE: 429,
    Fault.QUOTA: 429,
    Fault.OVERLOADED: 503,
    Fault.SERVER: 500,
    Fault.OTHER: 500,
}
"""The status with which a service usually says it."""


@frozen
class Fails:
    """An error within the stream, after which the service says no more."""

    fault: Fault
    message: str


@frozen
class Novelty:
    """An event of a kind that nobody knows yet, well formed."""


Said = Union[Text, Reasoning, Sealed, Call, Refusal, Used, Ends, Fails, Novelty]


# ---- how a provider is opened ---------------------------------------------------------------------------------------


@frozen(kw_only=True)
class ProviderSetup:
    """What a case wants of a provider. Times in seconds, sizes in bytes. `retry` is as `lash-provider-kit` has it.

    A provider that lacks a setting says so in `Wire.cannot`; the defaults are those of a provider in use.
    """

    base_url: str
    """Scheme, host and port of the server; the wire appends what its base URLs end with."""
    api_key: str = field(repr=False)
    retry: Literal["charge_safe", "lenient", "off"] = "charge_safe"
    max_attempts: int = 4
    chunk_timeout_s: float = 120.0
    deadline_s: float = 300.0
    max_event_bytes: int = 8 * 1024 * 1024
    max_stream_bytes: int = 64 * 1024 * 1024
    capture_requests: bool = False
    """Whether `request_body` of answers and errors holds the body that was sent, without secrets."""
    images: bool = True
    """Whether the model takes images."""
    sleep: Callable[[float], Awaitable[None]]
    """Waits between attempts; a case's own, which waits for nothing."""
    wall_clock: Callable[[], float]
    """Seconds since the epoch, with which a date in `Retry-After` is compared."""


class Ability(StrEnum):
    """What not every wire or provider can do. Its cases are skipped by name, with the reason in `Wire.cannot`."""

    DECODE = "decode"
    """The provider's decoder can be fed without a socket: `Wire.decode`."""
    DOCUMENT = "document"
    """An answer that comes as one document, although a stream was asked for, is read: `Wire.document`."""
    REASONING = "reasoning"
    SEALED = "sealed"
    """Reasoning has opaque state that goes back."""
    SEALED_CALLS = "sealed_calls"
    """Calls have opaque state that goes back."""
    CALL_IDS = "call_ids"
    """The service names calls, rather than the provider."""
    PARTIAL_CALLS = "partial_calls"
    """Arguments come in pieces."""
    REFUSAL = "refusal"
    REASONING_USAGE = "reasoning_usage"
    CACHE_READ_USAGE = "cache_read_usage"
    CACHE_WRITE_USAGE = "cache_write_usage"
    UNKNOWN_REASON = "unknown_reason"
    CONTENT_FILTER = "content_filter"
    FAILS = "fails"
    """Errors within a stream."""
    PROOF = "proof"
    """A stream that ends without its proof of completion is seen to be cut off."""
    RESPONSE_ID = "response_id"
    SERVED_MODEL = "served_model"
    LENIENT = "lenient"
    """`retry = "lenient"` and `"off"` exist."""
    CAPS = "caps"
    """`max_event_bytes` and `max_stream_bytes` can be set."""
    CAPTURE = "capture"
    IMAGES = "images"
    NO_IMAGES = "no_images"
    """`images = False` can be set."""
    TEMPERATURE = "temperature"
    SEED = "seed"
    STOP = "stop"
    OUTPUT_CAP = "output_cap"
    SCHEMA = "schema"
    JSON_OBJECT = "json_object"
    CHOICE_NONE = "choice_none"
    CHOICE_REQUIRED = "choice_required"
    LINES = "lines"
    """The stream is one of server-sent events, whose lines may end in several ways."""
    COMMENTS = "comments"
    """The stream has lines that mean nothing and keep the connection alive: `Wire.keep_alive`."""


@frozen
class Decoded:
    """What came of bytes: the events in order, and the answer or why there is none."""

    events: tuple[LlmStreamEvent, ...]
    outcome: LlmResponse | LlmCallError


class Wire(ABC):
    """One provider and its service's format, for the kit. Only `open`, `stream` and `error` have to be written."""

    provider_id: str = "test"
    """The id under which the provider is opened; part of the route of opaque state."""

    cannot: Mapping[str, str] = {}
    """Abilities that the wire or the provider lacks, or single cases by their id, each with the reason."""

    statuses: Mapping[Fault, int] = STATUSES
    """The status of each fault, where the service has its own."""

    content_type: str = "text/event-stream"
    """Of a streamed answer."""

    payload_keys: frozenset[str] = frozenset()
    """Names of JSON fields whose objects are the model's own (arguments, say): no service adds fields there."""

    @abstractmethod
    def open(self, setup: ProviderSetup) -> Any:
        """A provider that speaks to `setup.base_url`."""

    @abstractmethod
    def stream(self, said: Sequence[Said]) -> list[bytes]:
        """An answer as the whole events of a stream, beginning included; after `Ends`, what proves it whole.

        Without `Ends` or `Fails` the answer is one that is cut off there.
        """

    @abstractmethod
    def error(self, fault: Fault, message: str) -> bytes:
        """The body of an error answer."""

    def document(self, said: Sequence[Said]) -> bytes:
        """The same answer as one JSON document."""
        raise NotImplementedError

    def keep_alive(self) -> bytes:
        """Bytes between events that mean nothing: a comment."""
        return b": keep-alive\n\n"

    def decode(
        self,
        reads: Iterable[bytes],
        *,
        document: bool = False,
        max_event_bytes: int = 8 * 1024 * 1024,
        max_stream_bytes: int = 64 * 1024 * 1024,
    ) -> Decoded:
        """What the provider makes of these reads of a 200, without any socket. Raises nothing."""
        raise NotImplementedError

    def without_cache_marks(self, body: bytes) -> bytes:
        """A request's body without its cache directives, which move from request to request."""
        return body
