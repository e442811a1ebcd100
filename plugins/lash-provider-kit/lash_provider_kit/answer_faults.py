"""What can be wrong with an answer that came as a 200, as failures which name the provider."""

from __future__ import annotations

from typing import Any

from lash_hookspecs.llm import LlmCallError, LlmTerminalReason, ProviderFailureKind
from lash_provider_kit.failures import AttemptFailed, Seen, ServiceError, classify
from lash_provider_kit.reader import MALFORMED_EVENT, MISSHAPEN_EVENT
from lash_provider_kit.wire_json import dump

__all__ = ["MISSHAPEN", "AnswerFaults"]

_SHOWN_BYTES = 64 * 1024
"""Of what can't be read; secrets are taken out of that, and then it is cut to what people read."""

# Checking each type before use would cost every good event for the sake of a bad one.
MISSHAPEN = (AttributeError, LookupError, TypeError, ValueError)
"""What reading an event raises when something in it has another type than any service gives it."""


class AnswerFaults:
    """Makes the failures of one provider's answers."""

    def __init__(self, provider: str) -> None:
        self._provider = provider

    def failed(
        self, message: str, code: str, *, retryable: bool = True, raw: bytes | bytearray | None = None
    ) -> AttemptFailed:
        """What `message` says of the service."""
        error = LlmCallError(
            message=f"{self._provider}: the service {message}",
            kind=ProviderFailureKind.STREAM,
            code=code,
            retryable=retryable,
            raw=None if raw is None else raw.decode("utf-8", "replace"),
        )
        return AttemptFailed(error, Seen.EMPTY_STREAM)

    def no_json(self, what: str, why: ValueError, data: bytes | bytearray) -> AttemptFailed:
        """It sent `what`, which is no JSON."""
        return self._unreadable(f"sent {what} that is no JSON ({why})", MALFORMED_EVENT, data)

    def misshapen(self, what: str, data: bytes | bytearray) -> AttemptFailed:
        """It sent `what`, which is JSON and nothing of its wire."""
        return self._unreadable(f"sent {what}", MISSHAPEN_EVENT, data)

    def reported(
        self, said: ServiceError, raw: Any, verdict: tuple[ProviderFailureKind, bool, LlmTerminalReason] | None = None
    ) -> AttemptFailed:
        """It said itself that something failed; `verdict` is for what its own words don't tell."""
        kind, retryable, reason = verdict or classify(said, None)
        error = LlmCallError(
            message=(f"{self._provider}: the service reported an error in its answer: {said.message or 'no message'}"),
            kind=ProviderFailureKind.STREAM if kind is ProviderFailureKind.UNKNOWN else kind,
            retryable=retryable,
            code=said.code or said.type or (f"http_{said.status}" if said.status else "in_stream_error"),
            raw=dump(raw),
            terminal_reason=reason,
        )
        return AttemptFailed(error, Seen.RESPONSE)

    def _unreadable(self, message: str, code: str, data: bytes | bytearray) -> AttemptFailed:
        # A response was observed, however little of it could be read.
        data = data[:_SHOWN_BYTES]
        shown = " ".join(data.decode("utf-8", "replace").split())
        return self.failed(f"{message}: `{shown}`", code, raw=data).observed(Seen.RESPONSE)
