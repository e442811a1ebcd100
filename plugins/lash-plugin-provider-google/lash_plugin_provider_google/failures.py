"""What Google's error objects say beyond a status: which keys are wrong, which limits pass, how long to wait."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from attrs import evolve

from lash_hookspecs.llm import LlmCallError, LlmTerminalReason, ProviderFailureKind
from lash_provider_kit.answer_faults import AnswerFaults
from lash_provider_kit.failures import AttemptFailed, error_object

__all__ = ["FAULTS", "refine", "service_failure"]

FAULTS = AnswerFaults("google")
_Kind = ProviderFailureKind

# google.rpc.Code, as far as it differs from what the HTTP status alone would say: kind, and whether it may pass.
_STATUSES: Mapping[str, tuple[ProviderFailureKind, bool]] = {
    "ABORTED": (_Kind.HTTP, True),
    "CANCELLED": (_Kind.HTTP, True),
    "DEADLINE_EXCEEDED": (_Kind.HTTP, True),
    "FAILED_PRECONDITION": (_Kind.VALIDATION, False),
    "INTERNAL": (_Kind.HTTP, True),
    "INVALID_ARGUMENT": (_Kind.VALIDATION, False),
    "NOT_FOUND": (_Kind.VALIDATION, False),
    "OUT_OF_RANGE": (_Kind.VALIDATION, False),
    "PERMISSION_DENIED": (_Kind.AUTH, False),
    "RESOURCE_EXHAUSTED": (_Kind.QUOTA, True),
    "UNAUTHENTICATED": (_Kind.AUTH, False),
    "UNAVAILABLE": (_Kind.HTTP, True),
    "UNIMPLEMENTED": (_Kind.UNSUPPORTED, False),
    "UNKNOWN": (_Kind.HTTP, True),
}
# A wrong key is a bad argument to Google; what is wrong with it stands in an ErrorInfo, or only in the text.
_KEY_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_NOT_FOUND", "API_KEY_SERVICE_BLOCKED"})
# At the start only, where Google's own words stand: further on, a message may quote the user.
_KEY_WORDS = re.compile(r"(?i)api.?key (?:not valid|not found|expired|is invalid|was reported)")
_OVERFLOW = re.compile(r"(?i)(?:unable to submit request because )?the (?:input|prompt) token count")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")


def refine(body: bytes, failure: AttemptFailed) -> None:
    """Sharpen the failure of an error answer by what stands in its body."""
    try:
        value = orjson.loads(body)
    except ValueError:
        return  # a proxy's page, or nothing: the status says all there is
    value = value[0] if isinstance(value, list) and value else value
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict):
        _apply(error, failure)


def service_failure(error: Any) -> AttemptFailed:
    """The failure that an error object within an answer means."""
    verdict = (_Kind.STREAM, True, LlmTerminalReason.PROVIDER_ERROR)  # unless it has a status of its own
    failure = FAULTS.reported(error_object({"error": error}), error, verdict)
    if isinstance(error, dict):
        _apply(error, failure)
    return failure


def _apply(error: dict[str, Any], failure: AttemptFailed) -> None:
    status, message = error.get("status"), error.get("message")
    status = status if isinstance(status, str) else ""
    message = message.strip() if isinstance(message, str) else ""
    if status in _STATUSES:
        kind, retryable = _STATUSES[status]
        failure.error = evolve(failure.error, kind=kind, retryable=retryable, code=status)
    for detail in _details(error):
        name = str(detail.get("@type", "")).rpartition(".")[2]
        if name == "ErrorInfo" and (reason := str(detail.get("reason"))) in _KEY_REASONS:
            failure.error = _about_the_key(failure.error, reason)
        elif name == "RetryInfo" and failure.retry_after is None:
            failure.retry_after = _seconds(detail.get("retryDelay"))
        elif name == "QuotaFailure" and _is_used_up(detail):
            failure.error = evolve(failure.error, retryable=False)
    if failure.error.kind is not _Kind.VALIDATION:
        return
    if _KEY_WORDS.match(message):
        failure.error = _about_the_key(failure.error, "API_KEY_INVALID")
    elif _OVERFLOW.match(message):
        failure.error = evolve(failure.error, terminal_reason=LlmTerminalReason.CONTEXT_OVERFLOW)


def _details(error: dict[str, Any]) -> Iterator[dict[str, Any]]:
    details = error.get("details")
    return (each for each in (details if isinstance(details, list) else ()) if isinstance(each, dict))


def _about_the_key(error: LlmCallError, code: str) -> LlmCallError:
    return evolve(error, kind=_Kind.AUTH, retryable=False, code=code)


def _is_used_up(detail: dict[str, Any]) -> bool:
    """Whether a limit was hit that doesn't pass within a call's lifetime: a day's.

    Google asks to come again in seconds even then. A limit per minute is a throttle, although the message speaks of
    plan and billing.
    """
    violations = detail.get("violations")
    quotas = violations if isinstance(violations, list) else ()
    return any("PerDay" in str(each.get("quotaId")) for each in quotas if isinstance(each, dict))


def _seconds(delay: object) -> float | None:
    """A duration as protocol buffers write it in JSON: `3.5s`."""
    found = _DURATION.fullmatch(delay) if isinstance(delay, str) else None
    seconds = float(found[1]) if found else math.nan
    return seconds if math.isfinite(seconds) else None
