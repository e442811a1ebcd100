"""Charge safety: what is repeated, what isn't, how long is waited, and what the stream is told."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from attrs import evolve

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    AttemptReset,
    LlmCallError,
    LlmResponse,
    LlmStreamEvent,
    ProviderFailureKind,
    RetryStatus,
    TokenUsage,
)
from lash_provider_kit.failures import AttemptFailed, Seen
from lash_provider_kit.retry import GiveUp, RetryMode, RetryPolicy, RetryState, Wait, decide, with_retries


def failure(
    seen: Seen = Seen.NOTHING,
    *,
    retryable: bool = True,
    status: int | None = None,
    retry_after: float | None = None,
    final: bool = False,
) -> AttemptFailed:
    error = LlmCallError(message="m", code="original", retryable=retryable, kind=ProviderFailureKind.HTTP)
    return AttemptFailed(error, seen, status=status, retry_after=retry_after, final=final)


OUTPUT, OBSERVED, ORIGINAL = "unsafe_retry_after_output_started", "unsafe_retry_response_observed", "original"
MODES: tuple[RetryMode, ...] = ("charge_safe", "lenient", "off")

# What each mode does with a first failure: the seconds it waits, or the code with which it gives up.
TABLE: dict[str, tuple[AttemptFailed, tuple[float | str, float | str, float | str]]] = {
    "nothing observed": (failure(), (2.0, 2.0, ORIGINAL)),
    "refused connection": (failure(final=True), (ORIGINAL, ORIGINAL, ORIGINAL)),
    "not retryable": (failure(retryable=False), (ORIGINAL, ORIGINAL, ORIGINAL)),
    "empty stream cut": (failure(Seen.EMPTY_STREAM), (2.0, 2.0, ORIGINAL)),
    "503": (failure(Seen.RESPONSE, status=503), (OBSERVED, 2.0, OBSERVED)),
    "503 with Retry-After": (failure(Seen.RESPONSE, status=503, retry_after=5), (OBSERVED, 5.0, OBSERVED)),
    "429 without Retry-After": (failure(Seen.RESPONSE, status=429), (OBSERVED, 2.0, OBSERVED)),
    "429 with Retry-After": (failure(Seen.RESPONSE, status=429, retry_after=5), (5.0, 5.0, ORIGINAL)),
    "429 with a passed date": (failure(Seen.RESPONSE, status=429, retry_after=0), (2.0, 2.0, ORIGINAL)),
    "429 with a long wait": (failure(Seen.RESPONSE, status=429, retry_after=3600), (60.0, 60.0, ORIGINAL)),
    "429, money gone": (failure(Seen.RESPONSE, status=429, retry_after=5, retryable=False), (ORIGINAL,) * 3),
    "400": (failure(Seen.RESPONSE, status=400, retryable=False), (ORIGINAL, ORIGINAL, ORIGINAL)),
    "cut after output": (failure(Seen.OUTPUT), (OUTPUT, 2.0, OUTPUT)),
    "refusal after output": (failure(Seen.OUTPUT, retryable=False), (ORIGINAL, ORIGINAL, ORIGINAL)),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_decisions(name: str, mode: RetryMode) -> None:
    failed, by_mode = TABLE[name]
    expected = by_mode[MODES.index(mode)]
    match decide(RetryPolicy(mode=mode), RetryState(), failed):
        case Wait(seconds=seconds):
            assert seconds == expected
        case GiveUp(error):
            assert error.code == expected
            assert error.retryable is (failed.error.retryable and expected != OUTPUT)


def test_backoff_doubles_up_to_its_limit_and_then_gives_up() -> None:
    policy, state, waits = RetryPolicy(max_attempts=6), RetryState(), []
    while isinstance(step := decide(policy, state, failure()), Wait):
        waits.append(step.seconds)
        state = step.state
    assert waits == [2, 4, 8, 10, 10]


def test_a_courtesy_wait_costs_no_attempt_and_a_passed_date_does() -> None:
    policy = RetryPolicy()
    courteous = decide(policy, RetryState(), failure(Seen.RESPONSE, status=429, retry_after=1))
    assert isinstance(courteous, Wait)
    assert courteous.state.attempt == 1
    passed = decide(policy, RetryState(), failure(Seen.RESPONSE, status=429, retry_after=0))
    assert isinstance(passed, Wait)
    assert passed.state.attempt == 2


@pytest.mark.parametrize(
    ("retry_after", "calls", "waits"),
    [
        (1.0, 12, [1.0] * 8 + [2.0, 4.0, 8.0]),  # eight courtesies, then the attempts
        (40.0, 6, [40.0] * 5),  # two courtesies fit into 90 s
        (1000.0, 5, [60.0] * 4),  # one does
    ],
)
async def test_a_throttle_storm_is_bounded(retry_after: float, calls: int, waits: list[float]) -> None:
    asked, slept = 0, []

    async def attempt() -> LlmResponse:
        nonlocal asked
        asked += 1
        raise failure(Seen.RESPONSE, status=429, retry_after=retry_after)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def send(events: Sequence[LlmStreamEvent]) -> None:
        pass

    with pytest.raises(LlmCallFailed):
        await with_retries(RetryPolicy(), attempt, send, sleep)
    assert (asked, slept) == (calls, waits)


async def test_every_wait_shows_in_the_stream_before_it_begins() -> None:
    told: list[object] = []
    failures = [failure(), failure(Seen.RESPONSE, status=429, retry_after=7), failure(Seen.OUTPUT)]

    async def attempt() -> LlmResponse:
        if failures:
            raise failures.pop(0)
        return LlmResponse(full_text="at last")

    async def sleep(seconds: float) -> None:
        told.append(seconds)

    async def send(events: Sequence[LlmStreamEvent]) -> None:
        told.append(list(events))

    def status(seconds: float, attempt: int) -> RetryStatus:
        return RetryStatus(wait_seconds=seconds, attempt=attempt, max_attempts=4, reason="m")

    response = await with_retries(RetryPolicy(mode="lenient"), attempt, send, sleep)
    assert response.full_text == "at last"
    assert told == [
        [status(2.0, 1)],
        2.0,
        [status(7, 2)],
        7,
        # What was streamed is taken back, and only where something was.
        [AttemptReset(), status(4.0, 2)],
        4.0,
    ]


async def test_a_wait_that_is_shorter_than_asked_for_says_so() -> None:
    reasons: list[str] = []

    async def attempt() -> LlmResponse:
        raise failure(Seen.RESPONSE, status=429, retry_after=3600)

    async def sleep(seconds: float) -> None:
        assert seconds == 60.0

    async def send(events: Sequence[LlmStreamEvent]) -> None:
        reasons.extend(each.reason for each in events if isinstance(each, RetryStatus))

    with pytest.raises(LlmCallFailed):
        await with_retries(RetryPolicy(), attempt, send, sleep)
    assert set(reasons) == {"m (the service asked for 3600 s)"}


async def test_failure_after_output_is_typed_even_with_one_attempt() -> None:
    async def attempt() -> LlmResponse:
        raise failure(Seen.OUTPUT)

    async def send(events: Sequence[LlmStreamEvent]) -> None:
        raise AssertionError("nothing is waited for")

    with pytest.raises(LlmCallFailed) as caught:
        await with_retries(RetryPolicy(max_attempts=1), attempt, send)
    assert caught.value.error.code == OUTPUT
    assert caught.value.error.retryable is False


async def test_what_was_spent_isnt_lost_when_the_next_attempt_has_no_credential() -> None:
    """The first attempt may be charged, although the call ends because a token can't be renewed."""
    expired = LlmCallFailed(LlmCallError(message="log in again", code="revoked", kind=ProviderFailureKind.AUTH))
    ends: list[Exception] = [failure().charged(TokenUsage(input=7)), expired]

    async def attempt() -> LlmResponse:
        raise ends.pop(0)

    async def ignore(_: object) -> None:
        """Neither told nor waited."""

    with pytest.raises(LlmCallFailed) as caught:
        await with_retries(RetryPolicy(), attempt, ignore, ignore)
    error = caught.value.error
    assert error.code == "revoked"
    assert error.usage == TokenUsage(input=7, at_least=True)
    assert [each.code for each in error.failed_attempts] == ["original"]
    ends.append(expired)
    with pytest.raises(LlmCallFailed) as caught:
        await with_retries(RetryPolicy(), attempt, ignore, ignore)
    assert caught.value is expired


@pytest.mark.parametrize(("name", "value"), [("mode", "always"), ("max_attempts", 0), ("first_wait_s", -1)])
def test_a_policy_that_makes_no_sense_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        RetryPolicy(**{name: value})  # type: ignore[arg-type] # that's the point


@pytest.mark.parametrize(
    ("first", "second", "tier"),
    [
        (TokenUsage(input=3, service_tier="flex"), TokenUsage(input=3, service_tier="flex"), "flex"),
        (TokenUsage(input=3), TokenUsage(input=3, service_tier="fast"), "fast+standard"),
        (TokenUsage(), TokenUsage(input=3, service_tier="fast"), "fast"),
    ],
)
async def test_attempts_that_two_tiers_answered_are_charged_as_neither(
    first: TokenUsage, second: TokenUsage, tier: str
) -> None:
    usages = iter([first, second])

    async def attempt() -> LlmResponse:
        if (usage := next(usages)) is first:
            raise AttemptFailed(LlmCallError(message="broke", retryable=True, usage=usage), Seen.NOTHING)
        return LlmResponse(usage=usage)

    async def ignored(_: object) -> None:
        """Neither told nor waited."""

    response = await with_retries(RetryPolicy(), attempt, ignored, ignored)
    assert response.usage == evolve(first + second, service_tier=tier)
