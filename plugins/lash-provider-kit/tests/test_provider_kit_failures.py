"""What a failure is called: statuses, error objects, phrases, Retry-After, exceptions."""

from __future__ import annotations

import errno
import socket
import ssl
from email.utils import formatdate

import anyio
import httpx
import pytest

from lash_hookspecs.llm import LlmTerminalReason, ProviderFailureKind
from lash_provider_kit.failures import (
    AttemptFailed,
    Seen,
    ServiceError,
    classify,
    error_object,
    kind_of_status,
    retry_after_seconds,
    transport_failure,
)
from lash_provider_kit.transport import HttpTransport, Timeouts

K = ProviderFailureKind
ERROR, OVERFLOW = LlmTerminalReason.PROVIDER_ERROR, LlmTerminalReason.CONTEXT_OVERFLOW


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, K.VALIDATION, False),
        (401, K.AUTH, False),
        (402, K.QUOTA, False),
        (403, K.AUTH, False),
        (404, K.HTTP, False),
        (408, K.HTTP, True),
        (409, K.HTTP, True),
        (413, K.VALIDATION, False),
        (418, K.HTTP, False),
        (422, K.VALIDATION, False),
        (425, K.HTTP, True),
        (429, K.QUOTA, True),
        (500, K.HTTP, True),
        (502, K.HTTP, True),
        (503, K.HTTP, True),
        (504, K.HTTP, True),
        (529, K.HTTP, True),
    ],
)
def test_status_map(status: int, kind: ProviderFailureKind, retryable: bool) -> None:
    assert kind_of_status(status) == (kind, retryable)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"error":{"message":"m","type":"t","code":"c","param":null}}',
            ServiceError(message="m", code="c", type="t"),
        ),
        (b'{"error":{"message":"m","type":"t","code":null}}', ServiceError(message="m", type="t")),
        (b'{"error":{"message":"m","code":429}}', ServiceError(message="m", status=429)),
        (b'{"error":{"message":"m","code":"400","type":"t"}}', ServiceError(message="m", type="t", status=400)),
        (b'{"error":"just words"}', ServiceError(message="just words")),
        (
            b'{"object":"error","message":"m","type":"BadRequestError","code":400}',
            ServiceError(message="m", type="BadRequestError", status=400),
        ),
        (b'{"detail":"Not Found"}', ServiceError(message="Not Found")),
        (b'{"detail":[{"loc":["body"],"msg":"bad"}]}', ServiceError(message='[{"loc":["body"],"msg":"bad"}]')),
        (
            b'[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]',
            ServiceError(message="m", code="INVALID_ARGUMENT", status=400),
        ),
        (b"<html>Bad\n Gateway</html>", ServiceError(message="<html>Bad Gateway</html>")),
        (b"", ServiceError()),
        (b"null", ServiceError()),
        (b"[]", ServiceError()),
        (b'{"error":{"message":null,"code":true}}', ServiceError()),
        (b"\xff\xfe", ServiceError(message="\ufffd\ufffd")),
        # digits that Python's `int` takes no number from
        ('{"error":{"message":"m","code":"²"}}'.encode(), ServiceError(message="m")),
        (b'{"error":{"message":"m","code":"%b"}}' % (b"4" * 5000), ServiceError(message="m")),
        (b'{"error":{"message":"m","code":1400}}', ServiceError(message="m")),
    ],
)
def test_error_objects_of_many_services(body: bytes, expected: ServiceError) -> None:
    assert error_object(body) == expected


@pytest.mark.parametrize(
    ("said", "status", "verdict"),
    [
        # a code is believed, whatever status and text say
        (ServiceError(code="context_length_exceeded"), 400, (K.VALIDATION, False, OVERFLOW)),
        (ServiceError(code="insufficient_quota", message="please wait"), 429, (K.QUOTA, False, ERROR)),
        (ServiceError(code="rate_limit_exceeded"), None, (K.QUOTA, True, ERROR)),
        (ServiceError(type="exceed_context_size_error"), 400, (K.VALIDATION, False, OVERFLOW)),
        (ServiceError(code="content_filter"), 400, (K.VALIDATION, False, LlmTerminalReason.CONTENT_FILTER)),
        (ServiceError(code="server_error"), None, (K.HTTP, True, ERROR)),
        # but a type that says little of itself is no reason to doubt a throttle
        (ServiceError(type="server_error", message="Rate limited"), 429, (K.QUOTA, True, ERROR)),
        # an unknown code still keeps the text from being believed: it may quote the user
        (ServiceError(code="invalid_value", message="prompt is too long"), 400, (K.VALIDATION, False, ERROR)),
        (ServiceError(code="odd", message="prompt is too long"), None, (K.UNKNOWN, True, ERROR)),
        # without a code the text may tell an overflow
        (
            ServiceError(message="This model's maximum context length is 4096 tokens", type="BadRequestError"),
            400,
            (K.VALIDATION, False, OVERFLOW),
        ),
        (ServiceError(message="prompt is too long: 9 > 8"), 413, (K.VALIDATION, False, OVERFLOW)),
        (ServiceError(message="the context window is full"), None, (K.VALIDATION, False, OVERFLOW)),
        # but never where it speaks of a rate
        (ServiceError(message="too many tokens per minute"), 400, (K.VALIDATION, False, ERROR)),
        (ServiceError(message="Rate limit: context length tokens"), None, (K.QUOTA, True, ERROR)),
        (ServiceError(message="too many tokens"), 429, (K.QUOTA, True, ERROR)),
        # nor where the status has said something else
        (ServiceError(message="maximum context length"), 500, (K.HTTP, True, ERROR)),
        (ServiceError(message="maximum context length"), 401, (K.AUTH, False, ERROR)),
        # money that has run out doesn't come back by waiting
        (ServiceError(message="You exceeded your current quota"), 429, (K.QUOTA, False, ERROR)),
        (ServiceError(message="quota exceeded, insufficient credits"), None, (K.QUOTA, False, ERROR)),
        # a status that is in the object counts where HTTP had none
        (ServiceError(message="m", status=503), None, (K.HTTP, True, ERROR)),
        # nothing known: it may pass
        (ServiceError(message="hm"), None, (K.UNKNOWN, True, ERROR)),
    ],
)
def test_classification(said: ServiceError, status: int | None, verdict: object) -> None:
    assert classify(said, status) == verdict


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, NOW) == seconds


def _chained(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


class ReadTimeout(Exception):
    """Named like httpx's."""


@pytest.mark.parametrize(
    ("exc", "kind", "code", "retryable", "final"),
    [
        (
            _chained(Exception(), ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
            K.TRANSPORT,
            "connection_refused",
            True,
            True,
        ),
        (ConnectionResetError(errno.ECONNRESET, "reset"), K.TRANSPORT, "connection_broken", True, False),
        (anyio.EndOfStream(), K.TRANSPORT, "connection_broken", True, False),
        (
            _chained(Exception(), ssl.SSLCertVerificationError(1, "bad cert")),
            K.TRANSPORT,
            "certificate_rejected",
            False,
            True,
        ),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), K.TRANSPORT, "host_not_found", False, True),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), K.TRANSPORT, "host_not_found", True, False),
        (ReadTimeout(), K.TIMEOUT, "timeout", True, False),
        (TimeoutError(), K.TIMEOUT, "timeout", True, False),
        (OSError(errno.ENETUNREACH, "no network"), K.TRANSPORT, "transport_failed", True, False),
        (
            ExceptionGroup(
                "happy eyeballs",
                [ConnectionRefusedError(errno.ECONNREFUSED, "v6"), ConnectionRefusedError(errno.ECONNREFUSED, "v4")],
            ),
            K.TRANSPORT,
            "connection_refused",
            True,
            True,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_exceptions(exc: Exception, kind: ProviderFailureKind, code: str, retryable: bool, final: bool) -> None:
    failure = transport_failure(exc, "http://host/v1", "prov", Timeouts())
    assert (failure.error.kind, failure.error.code, failure.error.retryable) == (kind, code, retryable)
    assert failure.final is final
    assert failure.seen is Seen.NOTHING
    assert "prov" in failure.error.message
    assert "http://host/v1" in failure.error.message


async def test_writing_on_a_connection_whose_end_was_read_fails_typed() -> None:
    """httpcore maps anyio's error for that where it reads, and lets it through where it writes."""

    def write(request: httpx.Request) -> httpx.Response:
        raise anyio.EndOfStream

    transport = HttpTransport(
        provider="prov", url="http://host/v1", headers={}, timeouts=Timeouts(), transport=httpx.MockTransport(write)
    )
    with pytest.raises(AttemptFailed) as caught:
        await transport.post([b"{}"])
    assert caught.value.error.code == "connection_broken"
    await transport.aclose()
