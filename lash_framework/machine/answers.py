"""Readings of a model's answer that no driver has a say in: why it ended, and how a failure is told. Pure functions."""

from __future__ import annotations

from attrs import evolve

from lash_hookspecs.llm import (
    LlmCallError,
    LlmResponse,
    LlmTerminalReason,
    ProviderFailureKind,
    TextOutput,
)
from lash_hookspecs.turn_events import ErrorEnvelope, ErrorEvent
from lash_hookspecs.turn_outcomes import StopReason

__all__ = ["ENDING_REASONS", "answer_text", "call_error_event", "ending_event", "refine_reason", "shorten_raw"]

ENDING_REASONS = {
    LlmTerminalReason.OUTPUT_LIMIT: StopReason.INCOMPLETE,
    LlmTerminalReason.CONTEXT_OVERFLOW: StopReason.PROVIDER_ERROR,
    LlmTerminalReason.CONTENT_FILTER: StopReason.PROVIDER_ERROR,
    LlmTerminalReason.PROVIDER_ERROR: StopReason.PROVIDER_ERROR,
    LlmTerminalReason.CANCELLED: StopReason.CANCELLED,
}
"""The reasons that end a turn whatever the answer holds."""

RAW_LIMIT = 4000


def refine_reason(response: LlmResponse, window: int | None) -> LlmResponse:
    """Name the true cause where a service says "output limit" because the prompt left no room for output.

    That is so if nothing was written and the prompt fills at least 95% of the known window.
    """
    usage = response.usage
    if (
        response.terminal_reason is not LlmTerminalReason.OUTPUT_LIMIT
        or usage.output > 0
        or not window
        or usage.input_total < window * 95 // 100
    ):
        return response
    said = f"the prompt took {usage.input_total} of {window} tokens and left no room for an answer"
    return evolve(response, terminal_reason=LlmTerminalReason.CONTEXT_OVERFLOW, terminal_diagnostic=said)


def answer_text(response: LlmResponse) -> str:
    """All text of an answer."""
    return response.full_text or "".join(part.text for part in response.parts if isinstance(part, TextOutput))


_ENDING_MESSAGES = {
    LlmTerminalReason.OUTPUT_LIMIT: "the model reached its output limit before it had finished",
    LlmTerminalReason.CONTEXT_OVERFLOW: "the conversation no longer fits the model's context window",
    LlmTerminalReason.CONTENT_FILTER: "the provider's content filter stopped the answer",
    LlmTerminalReason.PROVIDER_ERROR: "the provider ended the answer with an error",
}


def ending_event(response: LlmResponse) -> ErrorEvent:
    """How the end of an answer that can't be gone on with is told."""
    reason = response.terminal_reason
    message = _ENDING_MESSAGES[reason]
    if response.terminal_diagnostic:
        message = f"{message}: {response.terminal_diagnostic}"
    envelope = ErrorEnvelope(
        kind="llm_provider", user_message=message, code=reason.value, terminal_reason=reason, retryable=False
    )
    return ErrorEvent(message, envelope)


def call_error_event(error: LlmCallError) -> ErrorEvent:
    """How a failed model call is told. An unknown kind is left out."""
    known = error.kind is not ProviderFailureKind.UNKNOWN
    envelope = ErrorEnvelope(
        kind="llm_provider",
        user_message=error.message,
        code=error.code,
        terminal_reason=error.terminal_reason,
        raw=None if error.raw is None else shorten_raw(error.raw),
        retryable=error.retryable,
        provider_failure_kind=error.kind if known else None,
    )
    return ErrorEvent(error.message, envelope)


def shorten_raw(raw: str) -> str:
    """`raw` trimmed, its middle cut out above 4,000 characters: both ends of a page of markup may tell what it is."""
    raw = raw.strip()
    if len(raw) <= RAW_LIMIT:
        return raw
    half = RAW_LIMIT // 2
    return f"{raw[:half]}\n[… {len(raw) - 2 * half} characters left out …]\n{raw[-half:]}"
