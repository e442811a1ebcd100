"""What went wrong with one attempt, as a typed value: from an HTTP status, from an error object, from an exception.

Owns the maps from statuses, codes and phrases to failure kinds. Decides nothing about retrying: it only says what was
seen of the response, which is what `retry` needs to know.
"""

from __future__ import annotations

import errno
import math
import re
import socket
import ssl
import zlib
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import orjson
from attrs import evolve

from lash_hookspecs.llm import LlmCallError, LlmTerminalReason, ProviderFailureKind, TokenUsage
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_provider_kit.carriers import Headers
    from lash_provider_kit.transport import Timeouts

__all__ = [
    "AttemptFailed",
    "Seen",
    "ServiceError",
    "classify",
    "error_object",
    "kind_of_status",
    "retry_after_seconds",
    "transport_failure",
]

_Kind = ProviderFailureKind


class Seen(IntEnum):
    """How much of a response was observed before an attempt failed; what has been seen may have been charged."""

    NOTHING = 0
    """No byte of a response."""
    EMPTY_STREAM = 1
    """A stream that began well, and broke off before any output or usage."""
    RESPONSE = 2
    """A response: an error status, an error event, usage."""
    OUTPUT = 3
    """Output of the model; it has been streamed already."""


class AttemptFailed(Exception):
    """One attempt failed; `retry.decide` says what follows from it.

    `retry_after` is the wait that the service asked for, in seconds (0 or less: a moment that has passed). `final` says
    that trying again can't help whatever the policy, as with a refused connection.
    """

    def __init__(
        self,
        error: LlmCallError,
        seen: Seen,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        final: bool = False,
    ) -> None:
        self.error = error
        self.seen = seen
        self.status = status
        self.retry_after = retry_after
        self.final = final
        super().__init__(error.message)

    def observed(self, seen: Seen) -> AttemptFailed:
        """Note that at least `seen` had been observed."""
        self.seen = max(self.seen, seen)
        return self

    def charged(self, usage: TokenUsage | None = None) -> AttemptFailed:
        """Note that the attempt may have cost something: `usage` as far as it was told, and perhaps more."""
        self.error = evolve(self.error, usage=evolve(usage or TokenUsage(), at_least=True))
        return self


# ---- error objects --------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class ServiceError:
    """What a service said: its message, its stable code and type (never a bare number), a status if it named one."""

    message: str = ""
    code: str = ""
    type: str = ""
    status: int | None = None


def error_object(body: bytes | Mapping[str, Any]) -> ServiceError:
    """The error that a body or an event describes, in any of the forms that services use; never fails."""
    value: Any = body
    if isinstance(body, bytes):
        try:
            value = orjson.loads(body)
        except ValueError:
            return ServiceError(message=" ".join(body.decode("utf-8", "replace").split()))
    if isinstance(value, list):
        value = value[0] if value else {}
    if isinstance(value, Mapping) and value.get("error"):
        value = value["error"]
    if isinstance(value, str):
        return ServiceError(message=value)
    if not isinstance(value, Mapping):
        return ServiceError()
    message = value.get("message") or value.get("detail") or value.get("error_description") or ""
    code, status = value.get("code"), value.get("status")
    number = next((int(str(each)) for each in (code, status) if _is_status(each)), None)
    named = next((each for each in (code, status) if isinstance(each, str) and not each.isdigit()), "")
    kind = value.get("type")
    return ServiceError(
        message=message if isinstance(message, str) else orjson.dumps(message).decode(),
        code=named,
        type=kind if isinstance(kind, str) else "",
        status=number,
    )


_STATUS = re.compile("[45][0-9][0-9]")  # not isdigit(), to which `²` is one as well


def _is_status(value: object) -> bool:
    if isinstance(value, str):
        return _STATUS.fullmatch(value) is not None
    return isinstance(value, int) and 400 <= value <= 599


# ---- classification -------------------------------------------------------------------------------------------------

_RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})

_Verdict = tuple[ProviderFailureKind, bool, LlmTerminalReason]
_ERROR = LlmTerminalReason.PROVIDER_ERROR

# Stable codes and types of the services' own vocabularies. What stands here is believed over status and text.
_CODES: Mapping[str, _Verdict] = {
    "authentication_error": (_Kind.AUTH, False, _ERROR),
    "billing_hard_limit_reached": (_Kind.QUOTA, False, _ERROR),
    "bio_policy": (_Kind.VALIDATION, False, LlmTerminalReason.CONTENT_FILTER),
    "content_filter": (_Kind.VALIDATION, False, LlmTerminalReason.CONTENT_FILTER),
    "content_policy_violation": (_Kind.VALIDATION, False, LlmTerminalReason.CONTENT_FILTER),
    "context_length_exceeded": (_Kind.VALIDATION, False, LlmTerminalReason.CONTEXT_OVERFLOW),
    "cyber_policy": (_Kind.VALIDATION, False, LlmTerminalReason.CONTENT_FILTER),
    "engine_overloaded": (_Kind.HTTP, True, _ERROR),
    "exceed_context_size_error": (_Kind.VALIDATION, False, LlmTerminalReason.CONTEXT_OVERFLOW),
    "image_content_policy_violation": (_Kind.VALIDATION, False, LlmTerminalReason.CONTENT_FILTER),
    "insufficient_quota": (_Kind.QUOTA, False, _ERROR),
    "invalid_api_key": (_Kind.AUTH, False, _ERROR),
    "invalid_prompt": (_Kind.VALIDATION, False, _ERROR),
    "model_not_found": (_Kind.VALIDATION, False, _ERROR),
    "overloaded_error": (_Kind.HTTP, True, _ERROR),
    "permission_error": (_Kind.AUTH, False, _ERROR),
    "rate_limit_error": (_Kind.QUOTA, True, _ERROR),
    "rate_limit_exceeded": (_Kind.QUOTA, True, _ERROR),
    "string_above_max_length": (_Kind.VALIDATION, False, _ERROR),
    # An answer that fails for one of these comes as a 200, so no status says that it is the request's fault.
    **dict.fromkeys(
        (
            "empty_image_file",
            "failed_to_download_image",
            "image_file_not_found",
            "image_file_too_large",
            "image_parse_error",
            "image_too_large",
            "image_too_small",
            "invalid_base64_image",
            "invalid_image",
            "invalid_image_format",
            "invalid_image_mode",
            "invalid_image_url",
            "unsupported_image_media_type",
        ),
        (_Kind.VALIDATION, False, _ERROR),
    ),
}

# Codes and types that say less than a status does, for errors that come without one.
_VAGUE: Mapping[str, tuple[ProviderFailureKind, bool]] = {
    "invalid_request_error": (_Kind.VALIDATION, False),
    "server_error": (_Kind.HTTP, True),
}

# As texts: most processes see no failure, and compiling these takes longer than loading this module.
_RATE_WORDS = r"(?i)rate.?limit|too many requests|per (?:minute|hour|day|second)|\b[tr]p[md]\b|throttl|quota"
_HARD_QUOTA = r"(?i)exceeded your current quota|insufficient (?:quota|credit|balance|funds)|credit balance|billing"
_OVERFLOW = (
    r"(?i)(?:maximum|max) context (?:length|size)|context[ _](?:length|limit|window|size)|prompt is too long"
    r"|input is too long|too many (?:input )?tokens|reduce the length of the (?:messages|prompt|input)"
    r"|longer than the model.s context|maximum prompt length|exceeded model token limit"
    r"|prompt token count of \d+ exceeds|range of input length should be"
)


def is_free(status: int) -> bool:
    """Whether an answer with this status says that the model wasn't asked: a redirect or a refusal was the answer."""
    return 300 <= status < 500 and status != 408  # which may come after the model had begun


def kind_of_status(status: int) -> tuple[ProviderFailureKind, bool]:
    """The failure kind of an HTTP status, and whether the same request might succeed later."""
    retryable = status in _RETRYABLE_STATUSES or status >= 500
    if status in (401, 403):
        return _Kind.AUTH, False
    if status in (400, 413, 422):
        return _Kind.VALIDATION, False
    if status in (402, 429):
        return _Kind.QUOTA, retryable
    return _Kind.HTTP, retryable


def classify(said: ServiceError, status: int | None) -> _Verdict:
    """Kind, retryability and terminal reason of what a service said.

    A code that the service gave is believed first, then the status; the text is consulted only where no code says
    anything, since a message may quote the user.
    """
    for each in (said.code, said.type):
        if each.lower() in _CODES:
            return _CODES[each.lower()]
    status = status or said.status
    if status is None:
        vague = (_VAGUE[each.lower()] for each in (said.code, said.type) if each.lower() in _VAGUE)
        kind, retryable = next(vague, (_Kind.UNKNOWN, True))
    else:
        kind, retryable = kind_of_status(status)
    told = said.code and said.code.lower() not in _VAGUE  # DeepSeek's code only repeats the type
    if told or kind not in (_Kind.UNKNOWN, _Kind.VALIDATION, _Kind.QUOTA):
        return kind, retryable, _ERROR
    if kind is _Kind.QUOTA:
        return kind, retryable and not re.search(_HARD_QUOTA, said.message), _ERROR
    if re.search(_RATE_WORDS, said.message):
        return (
            (_Kind.QUOTA, not re.search(_HARD_QUOTA, said.message), _ERROR)
            if kind is _Kind.UNKNOWN
            else (kind, retryable, _ERROR)
        )
    if re.search(_OVERFLOW, said.message):
        return _Kind.VALIDATION, False, LlmTerminalReason.CONTEXT_OVERFLOW
    return kind, retryable, _ERROR


# ---- headers --------------------------------------------------------------------------------------------------------


def retry_after_seconds(headers: Headers | Mapping[str, str], now: float) -> float | None:
    """The wait that the headers ask for, in seconds; 0 for a date that has passed, None where there is none.

    A date is compared with the one of the answer itself, since our clock may be hours away from theirs; without that,
    with `now`, the wall clock in seconds since the epoch.
    """
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    until = _timestamp(headers.get("retry-after", ""))
    if until is None:
        return None
    sent = _timestamp(headers.get("date", ""))
    return max(0.0, until - (now if sent is None else sent))


def _timestamp(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


# ---- exceptions -----------------------------------------------------------------------------------------------------


_BROKEN = frozenset(
    {"ServerDisconnectedError", "RemoteProtocolError", "ClientPayloadError", "ReadError", "WriteError", "EndOfStream"}
)


def transport_failure(exc: BaseException, url: str, provider: str, times: Timeouts) -> AttemptFailed:
    """What an exception of the HTTP library means. Nothing of a response has been seen, unless the exception says so.

    Where the request may have been sent, what it cost is unknown; where no connection came about, nothing was spent.

    The whole chain is read, because the library on top may have lost the difference.
    """
    chain = list(_chain(exc))
    names = {type(each).__name__ for each in chain}
    numbers = {each.errno for each in chain if isinstance(each, OSError)}
    why = _words(chain)

    def failed(
        message: str, kind: ProviderFailureKind, code: str, *, retryable: bool = True, final: bool = False
    ) -> AttemptFailed:
        error = LlmCallError(message=f"{provider}: {message}", kind=kind, code=code, retryable=retryable)
        return AttemptFailed(error, Seen.NOTHING, final=final)

    if errno.ECONNREFUSED in numbers:
        message = f"nothing listens at {url} (connection refused): is the service running, and is the base URL right?"
        return failed(message, _Kind.TRANSPORT, "connection_refused", final=True)
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in chain):
        message = f"the certificate of {url} can't be trusted: {why}"
        return failed(message, _Kind.TRANSPORT, "certificate_rejected", retryable=False, final=True)
    broken = next((each for each in chain if isinstance(each, zlib.error)), None)
    if broken is not None:
        message = f"what {url} sent says that it is compressed, and can't be decompressed: {broken}"
        return failed(message, _Kind.STREAM, "broken_compression", retryable=False).observed(Seen.RESPONSE).charged()
    lookup = next((each for each in chain if isinstance(each, socket.gaierror)), None)
    if lookup is not None:
        passing = lookup.errno == socket.EAI_AGAIN
        message = f"the host of {url} can't be found: {lookup.strerror or why}"
        return failed(message, _Kind.TRANSPORT, "host_not_found", retryable=passing, final=not passing)
    if "ProxyError" in names or "ClientHttpProxyError" in names:
        return failed(f"the proxy on the way to {url} failed: {why}", _Kind.TRANSPORT, "proxy_failed", final=True)
    if names & {"UnsupportedProtocol", "InvalidURL", "LocalProtocolError"}:
        message = f"the request to {url} can't be made: {why}"
        return failed(message, _Kind.VALIDATION, "bad_request", retryable=False, final=True)
    if _is_garbled(chain):
        message = f"what answers at {url} doesn't speak HTTP: {why}"
        failure = failed(message, _Kind.TRANSPORT, "not_http", retryable=False, final=True)
        return failure.observed(Seen.RESPONSE).charged()
    if names & _BROKEN or numbers & {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED}:
        return failed(f"the connection to {url} broke: {why}", _Kind.TRANSPORT, "connection_broken").charged()
    if any(isinstance(each, TimeoutError) for each in chain) or any(name.endswith("Timeout") for name in names):
        connecting = bool(names & {"ConnectTimeout", "ConnectionTimeoutError"})
        if errno.ETIMEDOUT in numbers:
            what = why  # the system's own limit, not ours
        elif connecting:
            what = f"no connection came about within {times.connect_s:g} s"
        elif "WriteTimeout" in names:
            what = f"it took nothing more of the request for {times.chunk_s:g} s"
        else:
            what = f"it sent nothing for {times.chunk_s:g} s"
        failure = failed(f"{url} didn't answer in time: {what}", _Kind.TIMEOUT, "timeout")
        return failure if connecting else failure.charged()
    failure = failed(f"{url} can't be reached: {why}", _Kind.TRANSPORT, "transport_failed")
    unreachable = numbers & {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}
    return failure if unreachable or names & {"ConnectError", "ClientConnectorError"} else failure.charged()


def with_message(failure: AttemptFailed, message: str) -> AttemptFailed:
    """The same failure with another message for people."""
    failure.error = evolve(failure.error, message=message)
    return failure


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        # aiohttp keeps the system's error in attributes rather than as the cause.
        for inner in (getattr(exc, "os_error", None), getattr(exc, "certificate_error", None)):
            if isinstance(inner, BaseException) and id(inner) not in seen:
                seen.add(id(inner))
                yield inner
        if isinstance(exc, BaseExceptionGroup):
            yield from (inner for each in exc.exceptions for inner in _chain(each))
        exc = exc.__cause__ or exc.__context__


def _is_garbled(chain: list[BaseException]) -> bool:
    # A body that breaks off is garbled too in aiohttp's eyes, and the connection's end to everybody else's.
    if any(type(each).__name__ == "ClientPayloadError" for each in chain):
        return False
    for each in chain:
        name = type(each).__name__
        if name in ("BadStatusLine", "BadHttpMessage", "LineTooLong", "ClientResponseError", "TransferEncodingError"):
            return True
        # h11 and httpcore use one class for garbage and for an early end; the early end has these words.
        if name == "RemoteProtocolError" and not re.search("(?i)disconnected|closed connection|incomplete", str(each)):
            return True
    return False


# aiohttp puts a status of its own before what it says of an answer that it can't read; no service has sent it.
_INVENTED_STATUS = re.compile(r"\b\d{3}, message[:=] ?")


def _words(chain: list[BaseException]) -> str:
    """The most telling text of an exception chain: the deepest one that has any."""
    texts = [_INVENTED_STATUS.sub("", " ".join(str(each).split())) for each in chain]
    return next((text for text in reversed(texts) if text and text != "()"), type(chain[0]).__name__)
