"""Whether to try again: one pure decision, and the loop that obeys it.

The rule is charge safety. That a failure is retryable isn't enough: a response that was observed may have been paid
for, so by default an attempt is repeated only where nothing was observed, where the service itself asked to come again
(429 with `Retry-After`), or where a stream broke off before it held anything. Each wait is told in the stream.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Literal

import anyio
from attrs import evolve, field
from attrs.validators import ge, in_

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    AttemptDecision,
    AttemptReset,
    AttemptSeen,
    FailedAttempt,
    LlmCallError,
    LlmEventSender,
    LlmResponse,
    LlmStreamEvent,
    RetryStatus,
    TokenUsage,
)
from lash_hookspecs.values import frozen
from lash_provider_kit.failures import AttemptFailed, Seen

__all__ = ["GiveUp", "RetryMode", "RetryPolicy", "RetryState", "Wait", "decide", "with_retries"]

_MESSAGE_CHARS = 1024

RetryMode = Literal["charge_safe", "lenient", "off"]


@frozen(kw_only=True)
class RetryPolicy:
    """How often and how long to try; all times in seconds.

    `charge_safe` repeats nothing of which an answer was seen (a request that timed out may still have been charged);
    `lenient` also repeats 5xx answers and streams that were cut after output; `off` makes one attempt. A throttle that
    names its wait costs no attempt, as long as such waits are fewer than `courtesy_waits` and together at most
    `courtesy_total_s`.
    """

    mode: RetryMode = field(default="charge_safe", validator=in_(("charge_safe", "lenient", "off")))
    max_attempts: int = field(default=4, validator=ge(1))
    first_wait_s: float = field(default=2.0, validator=ge(0))
    max_wait_s: float = field(default=10.0, validator=ge(0))
    retry_after_cap_s: float = field(default=60.0, validator=ge(0))
    courtesy_waits: int = field(default=8, validator=ge(0))
    courtesy_total_s: float = field(default=90.0, validator=ge(0))


@frozen(kw_only=True)
class RetryState:
    """Where a call stands: the attempt under way, counted from 1, and the courtesy waits already granted."""

    attempt: int = 1
    courtesy_waits: int = 0
    courtesy_waited_s: float = 0.0


@frozen(kw_only=True)
class Wait:
    """Try again after `seconds`; `state` is where the call then stands."""

    seconds: float
    state: RetryState
    decision: AttemptDecision = AttemptDecision.REPEATED


@frozen
class GiveUp:
    """The call failed; `error` says also why it isn't tried again."""

    error: LlmCallError
    decision: AttemptDecision = AttemptDecision.GAVE_UP


def decide(policy: RetryPolicy, state: RetryState, failure: AttemptFailed) -> Wait | GiveUp:
    """What follows from a failed attempt. Pure."""
    error = failure.error
    throttled = failure.status == 429 and error.retryable and failure.retry_after is not None
    refusal = _refusal(policy, failure, throttled)
    if refusal is not None:
        return GiveUp(refusal, AttemptDecision.REFUSED)
    if failure.final or not error.retryable or policy.mode == "off":
        return GiveUp(error)

    asked = min(failure.retry_after or 0.0, policy.retry_after_cap_s)
    if throttled and asked >= 1.0:
        waited = state.courtesy_waited_s + asked
        if state.courtesy_waits < policy.courtesy_waits and waited <= policy.courtesy_total_s:
            courtesy = evolve(state, courtesy_waits=state.courtesy_waits + 1, courtesy_waited_s=waited)
            return Wait(seconds=asked, state=courtesy, decision=AttemptDecision.COURTESY)
    if state.attempt >= policy.max_attempts:
        return GiveUp(error)
    backoff = min(policy.first_wait_s * 2 ** (state.attempt - 1), policy.max_wait_s)
    return Wait(seconds=max(asked, backoff), state=evolve(state, attempt=state.attempt + 1))


def _refusal(policy: RetryPolicy, failure: AttemptFailed, throttled: bool) -> LlmCallError | None:
    """The error of a failure that could be repeated, and isn't because it may have been paid for."""
    error = failure.error
    if policy.mode == "lenient" or not error.retryable or failure.final:
        return None
    if failure.seen is Seen.OUTPUT:
        # Whoever asks again pays again, so this isn't called retryable, although the service may well recover.
        return evolve(
            error,
            code="unsafe_retry_after_output_started",
            retryable=False,
            message=f"{error.message} (not repeated: the answer had begun, a second one would be charged again)",
        )
    if failure.seen is Seen.RESPONSE and not throttled:
        return evolve(
            error,
            code="unsafe_retry_response_observed",
            message=f"{error.message} (not repeated: the service had answered, and may have charged for it)",
        )
    return None


def _reason(failure: AttemptFailed, seconds: float) -> str:
    """Why there is a wait, and that the service asked for a longer one, if it did."""
    asked = failure.retry_after or 0.0
    return f"{failure.error.message}{f' (the service asked for {asked:.0f} s)' if asked > seconds else ''}"


async def with_retries(
    policy: RetryPolicy,
    attempt: Callable[[], Awaitable[LlmResponse]],
    send: LlmEventSender,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    refresh: Callable[[], Awaitable[bool]] | None = None,
) -> LlmResponse:
    """Run `attempt` until it succeeds or `decide` gives up; raises `LlmCallFailed`. `sleep` takes seconds.

    What failed attempts may have cost is added to the answer's usage, or to the error's; also where a later one ends
    the call by a `LlmCallFailed` of its own, as when a credential can't be had. `refresh` is asked once, when
    a credential was refused; where it got another one, that attempt is made again at once.
    """
    state = RetryState()
    spent: TokenUsage | None = None
    failed: list[FailedAttempt] = []
    while True:
        began = time.monotonic()
        failure: AttemptFailed | LlmCallFailed
        try:
            response = await attempt()
            if not failed:
                return response
            usage = response.usage if spent is None else _together(spent, response.usage)
            return evolve(response, usage=usage, failed_attempts=tuple(failed))
        except (AttemptFailed, LlmCallFailed) as exc:
            failure = exc
        # Outside of the `except`: whoever gets the error gets the redacted value, and no chain behind it.
        lasted = time.monotonic() - began
        if failure.error.usage is not None:
            spent = failure.error.usage if spent is None else _together(spent, failure.error.usage)
        if isinstance(failure, LlmCallFailed):
            if not failed:
                raise failure
            raise LlmCallFailed(evolve(failure.error, usage=spent, failed_attempts=tuple(failed)))
        step = decide(policy, state, failure)
        if refresh is not None and failure.status == 401:
            renew, refresh = refresh, None
            try:
                if await renew():
                    step = Wait(seconds=0.0, state=state, decision=AttemptDecision.CREDENTIAL)
            except LlmCallFailed as exc:
                step = GiveUp(exc.error)
        failed.append(_record(len(failed) + 1, failure, step, lasted))
        if isinstance(step, GiveUp):
            several = tuple(failed) if len(failed) > 1 else ()
            raise LlmCallFailed(evolve(step.error, usage=spent, failed_attempts=several))
        if step.decision is not AttemptDecision.CREDENTIAL:
            events: list[LlmStreamEvent] = [AttemptReset()] if failure.seen is Seen.OUTPUT else []
            status = RetryStatus(
                wait_seconds=step.seconds,
                attempt=state.attempt,
                max_attempts=policy.max_attempts,
                reason=_reason(failure, step.seconds),
            )
            await send([*events, status])
            await sleep(step.seconds)
        state = step.state


def _together(one: TokenUsage, other: TokenUsage) -> TokenUsage:
    """What two attempts took. If another tier answered each, nobody can say what that costs: no tier is called so."""
    usage = one + other
    if one.total and other.total and one.service_tier != other.service_tier:
        return evolve(usage, service_tier="+".join(sorted(each.service_tier or "standard" for each in (one, other))))
    return usage


def _record(ordinal: int, failure: AttemptFailed, step: Wait | GiveUp, lasted: float) -> FailedAttempt:
    error = failure.error
    return FailedAttempt(
        ordinal=ordinal,
        kind=error.kind,
        code=error.code,
        message=error.message[:_MESSAGE_CHARS],
        seen=AttemptSeen[failure.seen.name],
        decision=step.decision,
        lasted=round(lasted, 3),
        waited=step.seconds if isinstance(step, Wait) else 0.0,
        status=failure.status,
        usage=error.usage,
    )
