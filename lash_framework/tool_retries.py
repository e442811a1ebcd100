"""Whether a call that failed is made again, and when. Pure: what is decided is recorded with the failed attempt."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from lash_framework.catalog import Catalog
from lash_framework.open_calls import OpenCall
from lash_hookspecs.effect_outcomes import RetryLater, RuntimeEffectOutcome, ToolCallDone, ToolCallEffectOutcome
from lash_hookspecs.effects import EffectRunner, RuntimeEffectEnvelope
from lash_hookspecs.llm import RetryStatus
from lash_hookspecs.tool_declarations import (
    RetryIdempotent,
    RetryNever,
    ToolRetryExhausted,
    ToolRetryPolicy,
    ToolRetrySafe,
)
from lash_hookspecs.tools import (
    ToolCallFailure,
    ToolFailureClass,
    ToolFailureSource,
)

__all__ = ["decided", "judging", "retry_status"]

_FINAL = frozenset({ToolFailureClass.INVALID_REQUEST, ToolFailureClass.PERMISSION_DENIED})
"""What would be the same the next time."""


def judging(run: EffectRunner, policy: ToolRetryPolicy, attempt: int, now_ms: Callable[[], int]) -> EffectRunner:
    """The executor of an attempt, with what follows from its outcome."""

    async def judged(asked: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        return decided(await run(asked), policy, attempt, now_ms())

    return judged


def decided(outcome: RuntimeEffectOutcome, policy: ToolRetryPolicy, attempt: int, now_ms: int) -> RuntimeEffectOutcome:
    """What came of an attempt (from 1), with when there is to be another one, or how many there were in vain."""
    if isinstance(policy, RetryNever) or not isinstance(outcome, ToolCallEffectOutcome):
        return outcome
    failed = outcome.launch.result.output.outcome
    if not isinstance(outcome.launch, ToolCallDone) or not isinstance(failed, ToolCallFailure):
        return outcome
    if not _may_repeat(failed, policy):
        return outcome
    if attempt >= policy.max_attempts:
        result = outcome.launch.result
        exhausted = evolve(result.output, outcome=evolve(failed, retry=ToolRetryExhausted(attempt)))
        return evolve(outcome, launch=ToolCallDone(evolve(result, output=exhausted)))
    delay_ms = min(policy.base_delay_ms << min(attempt - 1, 40), policy.max_delay_ms)
    if isinstance(failed.retry, ToolRetrySafe) and failed.retry.after_ms is not None:
        delay_ms = min(max(failed.retry.after_ms, 0), policy.max_delay_ms)
    return evolve(outcome, again=RetryLater(delay_ms=delay_ms, until_ms=now_ms + delay_ms))


def retry_status(catalog: Catalog, call: OpenCall, seconds: float) -> RetryStatus:
    """What watchers are told of an attempt that failed and the wait before the next one."""
    owned = catalog.tools.get(call.asked.tool_name)
    policy = owned.tool.manifest.retry if owned is not None else RetryNever()
    failed = call.raw.output.outcome if call.raw is not None else None
    reason = failed.message if isinstance(failed, ToolCallFailure) else "it failed"
    return RetryStatus(
        wait_seconds=seconds,
        attempt=call.attempt,
        max_attempts=call.attempt + 1 if isinstance(policy, RetryNever) else policy.max_attempts,
        reason=f"`{call.asked.tool_name}`: {reason}",
    )


def _may_repeat(failed: ToolCallFailure, policy: ToolRetryPolicy) -> bool:
    """Its own failure says so; or repeating does no harm, and it is the tool that failed, or was too slow."""
    if isinstance(failed.retry, ToolRetrySafe):
        return True
    if not isinstance(policy, RetryIdempotent) or failed.failure_class in _FINAL:
        return False
    return failed.source is ToolFailureSource.TOOL or failed.failure_class is ToolFailureClass.TIMEOUT
