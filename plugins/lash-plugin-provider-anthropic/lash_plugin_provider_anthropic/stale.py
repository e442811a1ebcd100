"""Thinking that the service doesn't take back, since what stood before it has changed: a conversation goes on without.

Signatures of the newest models hold for what the model had read: instructions, tools, earlier messages. What is stored
is never changed. Which thinking is stale, only the service knows: it is found out by one refused request, which costs
nothing, and remembered as long as the process lives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import evolve

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    AttemptDecision,
    AttemptSeen,
    FailedAttempt,
    LlmCallError,
    LlmRequest,
    LlmResponse,
    ProviderFailureKind,
)
from lash_hookspecs.llm_messages import LlmMessage, LlmRole, ReasoningBlock, ToolCallBlock

__all__ = ["STALE", "StaleThinking", "is_amid_calls", "is_stale", "recovered", "refused_again"]

STALE = "stale_thinking"
_SAID = re.compile(
    r"invalid `?signature`? in `?thinking`? block"
    r"|`?thinking`? or `?redacted_thinking`? blocks in the latest assistant message cannot be modified"
    r"|the blocks must match the parameters during the original request"
    r"|expected `?thinking`? or `?redacted_thinking`?, but found",
    re.IGNORECASE,
)
"""Many other refusals speak of thinking, blocks and signatures as well."""
_MOST = 1024
_MESSAGE_CHARS = 512


def is_stale(error: LlmCallError) -> bool:
    """Whether the service refused a request for its thinking blocks."""
    return error.kind is ProviderFailureKind.VALIDATION and _SAID.search(error.message) is not None


class StaleThinking:
    """Up to which message each conversation's thinking was refused."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], int] = {}

    def until(self, request: LlmRequest) -> int:
        """So many of the first messages are sent without their thinking."""
        if not self._until or request.scope is None:
            return 0
        key = request.scope.session_id, request.model
        until = self._until.get(key, 0)
        if until > len(request.messages):  # another conversation by now: a compacted one
            del self._until[key]
            return 0
        return until

    def found(self, request: LlmRequest) -> None:
        """All of them, from now on."""
        if request.scope is not None:
            if len(self._until) >= _MOST:
                del self._until[next(iter(self._until))]
            self._until[request.scope.session_id, request.model] = len(request.messages)


def is_amid_calls(messages: Sequence[LlmMessage], stale: int) -> bool:
    """Whether the calls that the conversation ends with began without thinking: left out, or switched off then.

    The service counts all calls and results at the end as one answer, which begins with thinking, or does without.
    """
    first: int | None = None
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if message.role is LlmRole.ASSISTANT:
            if not any(isinstance(each, ToolCallBlock) for each in message.blocks):
                break
            first = place
    if first is None:
        return False
    return first < stale or not isinstance(messages[first].blocks[0], ReasoningBlock)


def recovered(answer: LlmResponse, first: LlmCallError) -> LlmResponse:
    """The answer to the second request, with a record of the first one."""
    attempts = (_record(first), *(evolve(each, ordinal=each.ordinal + 1) for each in answer.failed_attempts))
    return evolve(answer, failed_attempts=attempts)


def refused_again(failed: LlmCallFailed, first: LlmCallError) -> LlmCallFailed:
    """The same for a second request that failed."""
    attempts = (_record(first), *(evolve(each, ordinal=each.ordinal + 1) for each in failed.error.failed_attempts))
    return LlmCallFailed(evolve(failed.error, failed_attempts=attempts))


def _record(error: LlmCallError) -> FailedAttempt:
    return FailedAttempt(
        ordinal=1,
        kind=error.kind,
        code=STALE,
        message=error.message[:_MESSAGE_CHARS],
        seen=AttemptSeen.RESPONSE,
        decision=AttemptDecision.TRIMMED,
        lasted=0.0,
        status=400,
        usage=error.usage,
    )
